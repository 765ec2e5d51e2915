-- A shard is made known, once; `rows` have been tried before.
local b, n, count, patience, rows = ARGV[1], ARGV[2], num(ARGV[3]), num(ARGV[4]), cjson.decode(ARGV[5])
local batch, shard = batch_key(b), shard_key(b, n)
if redis.call('EXISTS', batch) == 0 then return 'gone' end
if redis.call('EXISTS', shard) == 1 then return 'known' end
redis.call('HSET', shard, 'state', 'open', 'fence', 0, 'rows', count)
redis.call('HINCRBY', batch, 'shards', 1)
redis.call('HINCRBY', batch, 'n:ready', count)
for i, row in pairs(rows) do
    redis.call('HSET', rows_key(b, n), i, cjson.encode(row))
    redis.call('HINCRBY', batch, 'n:ready', -1)
    redis.call('HINCRBY', batch, 'n:' .. row.s, 1)
end
redis.call('ZADD', open_key(b), now + patience, n)
return 'new'
