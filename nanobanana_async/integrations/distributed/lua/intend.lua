-- About to be sent: the only step that needs the fence, for it is the one that lets money be spent.
local b, n, i, fence, worker, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local cost, answer_ms, again = ARGV[7], num(ARGV[8]), ARGV[9] == '1'
local batch = batch_key(b)

if redis.call('EXISTS', batch) == 0 then return 'gone' end
local row, was = get_row(b, n, i)
if row.s == 'intent' and row.o == nonce then return 'ok' end -- the answer to the first call was lost
if redis.call('HGET', batch, 'stopped') then return 'stopped' end
if not alive(worker) or redis.call('HGET', shard_key(b, n), 'fence') ~= fence then return 'fenced' end
if redis.call('EXISTS', VOID .. nonce) == 1 then return 'void' end
if redis.call('EXISTS', HOLD) == 1 then return 'held' end
if row.s ~= (again and 'uncertain' or 'ready') then return 'misplaced' end

local most = tonumber(redis.call('HGET', batch, 'max'))
if most then
    if cost == '' then return 'unpriced' end
    local sums = redis.call('HMGET', batch, 'base', 'spent', 'reserved', 'doubtful')
    local left = most - num(sums[1]) - num(sums[2]) - num(sums[3]) - num(sums[4])
    if num(cost) > left then return 'budget:' .. math.max(0, left) end
end

if again then
    row.q = num(row.c)
    redis.call('HINCRBY', batch, 'doubtful', row.q)
end
row.s, row.n, row.o, row.k, row.g = 'intent', num(row.n) + 1, nonce, nil, nil
row.c, row.h = tonumber(cost), tonumber(cost)
redis.call('HSET', INTENTS, name_of(b, n, i), cjson.encode({
    w = worker, t = now, a = answer_ms, o = nonce, c = tonumber(cost), z = num(redis.call('GET', CHARGED)),
}))
put_row(b, n, i, row, was)
return 'ok'
