-- A batch is over, and everything about it is known elsewhere.
local b = ARGV[1]
local batch = batch_key(b)
if redis.call('ZCARD', dirty_key(b)) > 0 then return 'changed' end
if num(redis.call('HGET', batch, 'ended')) < num(redis.call('HGET', batch, 'shards')) then return 'open' end
for n = 0, num(redis.call('HGET', batch, 'shards')) - 1 do redis.call('UNLINK', shard_key(b, n), rows_key(b, n)) end
redis.call('UNLINK', batch, open_key(b), dirty_key(b))
redis.call('SREM', BATCHES, b)
return 'ok'
