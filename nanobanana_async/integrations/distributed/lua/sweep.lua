-- Shards that nobody works on, to be told again: messages may be lost, and workers die.
local patience, most, found = num(ARGV[1]), num(ARGV[2]), {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', now)) do free_all(worker) end
for _, b in ipairs(redis.call('SMEMBERS', BATCHES)) do
    if not redis.call('HGET', batch_key(b), 'stopped') then
        for _, n in ipairs(redis.call('ZRANGEBYSCORE', open_key(b), '-inf', now, 'LIMIT', 0, most)) do
            redis.call('ZADD', open_key(b), now + patience, n)
            if not alive(redis.call('HGET', shard_key(b, n), 'owner')) then
                found[#found + 1] = b
                found[#found + 1] = n
            end
        end
    end
end
return found
