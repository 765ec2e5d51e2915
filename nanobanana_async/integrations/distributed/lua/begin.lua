-- A batch is made known. Again: with another budget, and going on if it had stopped.
local b, meta = ARGV[1], cjson.decode(ARGV[2])
local batch, fresh = batch_key(b), redis.call('EXISTS', batch_key(b)) == 0
if fresh and ARGV[3] ~= '1' then return 'gone' end
if fresh then
    redis.call('HSET', batch, 'spent', 0, 'reserved', 0, 'doubtful', 0, 'seq', 0, 'ended', 0, 'shards', 0, 'base', 0)
end
redis.call('HDEL', batch, 'stopped', 'max')
for field, value in pairs(meta) do redis.call('HSET', batch, field, value) end
for n = 0, num(redis.call('HGET', batch, 'shards')) - 1 do
    if redis.call('HGET', shard_key(b, n), 'state') == 'parked' then -- another run may take it further
        redis.call('HSET', shard_key(b, n), 'state', 'open')
        redis.call('HINCRBY', batch, 'ended', -1)
        redis.call('ZADD', open_key(b), now, n)
    end
end
redis.call('SADD', BATCHES, b)
return fresh and 'new' or 'known'
