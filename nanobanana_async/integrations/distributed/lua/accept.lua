-- Taken by the service, and paid. Never refused: a paid id that comes late is still a paid id.
local b, n, i, nonce, id, told, remaining = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local name, batch = name_of(b, n, i), batch_key(b)
if redis.call('EXISTS', batch) == 0 then
    local word = keep_late(b, i, { s = 'running', g = (id ~= '' and id or nil), k = tonumber(told) })
    return word == 'other' and 'twice' or word
end
local row, was = get_row(b, n, i)
if id ~= '' and row.g == id then return 'ok' end -- the answer to the first call was lost

local open = redis.call('HGET', INTENTS, name) or redis.call('HGET', DOUBTS, name)
open = open and cjson.decode(open)
if open and open.o ~= nonce then open = nil end
local judged = row.s == 'uncertain' or row.s == 'lost' or (row.s == 'failed' and not row.g)
if not open and row.s ~= 'ready' and not judged then
    redis.call('HINCRBY', batch, 'twice', 1) -- another attempt is on its way or paid: nothing can be taken back
    redis.call('HINCRBY', batch, 'spent', num(told))
    charge(told)
    return 'twice'
end

if open then
    redis.call('HDEL', INTENTS, name)
    redis.call('HDEL', DOUBTS, name)
end
if open or row.s == 'ready' then charge(told) end -- what was judged uncertain or lost is in the balance already
local known = tonumber(redis.call('GET', KNOWN))
if open and known and remaining ~= '' then
    -- Others of ours may have been charged and not answered yet (the balance is lower), or answered meanwhile (higher).
    local lower, higher, sure = 0, num(redis.call('GET', CHARGED)) - num(told) - open.z, true
    for _, key in ipairs({ INTENTS, DOUBTS }) do
        for _, other in ipairs(redis.call('HVALS', key)) do
            local cost = cjson.decode(other).c
            lower, sure = lower + num(cost), sure and cost ~= nil
        end
    end
    local left = num(remaining)
    if sure and (left < known - lower or left > known + higher) then
        redis.call('SET', SHARED, now)
        redis.call('DEL', KNOWN)
    end
    if lower == 0 and higher == 0 and sure then redis.call('SET', KNOWN, left) end
end

row.s, row.g, row.k = 'running', (id ~= '' and id or nil), tonumber(told)
row.h, row.b = nil, tonumber(told)
if not row.b then row.h = row.c end
row.o, row.q, row.e, row.m, row.j = nil, nil, nil, nil, nil
put_row(b, n, i, row, was)
open_again(b, n)
return 'ok'
