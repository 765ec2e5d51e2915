-- A shard for a worker, if nobody has it. Each claim has a new fence.
local b, n, worker = ARGV[1], ARGV[2], ARGV[3]
local batch, shard = batch_key(b), shard_key(b, n)
local state = redis.call('HGET', shard, 'state')
if redis.call('EXISTS', batch) == 0 or not state then return { 'gone' } end
if state ~= 'open' then return { state } end
if redis.call('HGET', batch, 'stopped') then return { 'stopped' } end
if not alive(worker) then return { 'fenced' } end
local owner = redis.call('HGET', shard, 'owner')
if alive(owner) then return { 'taken' } end
redis.call('HSET', shard, 'owner', worker)
redis.call('SADD', owned_key(worker), b .. '/' .. n)
return { 'ok', tostring(redis.call('HINCRBY', shard, 'fence', 1)) }
