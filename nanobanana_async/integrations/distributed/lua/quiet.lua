-- Are there doubts, and is anything on its way? With a token: stop all submissions meanwhile.
local token, hold_ms = ARGV[1], ARGV[2]
if token ~= '' and not redis.call('SET', HOLD, token, 'PX', hold_ms, 'NX') then
    if redis.call('GET', HOLD) ~= token then return { -1, 0, 0 } end
    redis.call('PEXPIRE', HOLD, hold_ms)
end
local live, pending = sort_intents()
return { live, pending, redis.call('HLEN', DOUBTS) }
