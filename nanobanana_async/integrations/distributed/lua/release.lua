-- A slice ends. The shard is open, done, or parked: something is left that this run can't take further.
local b, n, fence, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local batch, shard = batch_key(b), shard_key(b, n)
if redis.call('HGET', shard, 'fence') ~= fence or redis.call('EXISTS', batch) == 0 then return 'fenced' end
local owner = redis.call('HGET', shard, 'owner')
if owner then redis.call('SREM', owned_key(owner), b .. '/' .. n) end
free_shard(b, n, now)
if state ~= 'open' then
    if redis.call('HGET', shard, 'state') == 'open' then redis.call('HINCRBY', batch, 'ended', 1) end
    redis.call('HSET', shard, 'state', state)
    redis.call('ZREM', open_key(b), n)
end
return 'ok'
