-- A batch's sums, how many workers are there, and how many shards they work on.
local busy, workers = 0, redis.call('ZRANGEBYSCORE', WORKERS, now, '+inf')
for _, worker in ipairs(workers) do busy = busy + redis.call('SCARD', owned_key(worker)) end
return { redis.call('HGETALL', batch_key(ARGV[1])), #workers, busy }
