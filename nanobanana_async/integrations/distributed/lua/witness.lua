-- A balance that was read while nothing could be submitted, and nothing was in doubt.
if redis.call('GET', HOLD) ~= ARGV[1] or redis.call('HLEN', INTENTS) + redis.call('HLEN', DOUBTS) > 0 then return 'no' end
redis.call('SET', KNOWN, ARGV[2])
redis.call('DEL', HOLD)
return 'ok'
