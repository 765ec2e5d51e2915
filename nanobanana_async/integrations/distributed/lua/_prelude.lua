-- What all scripts share. KEYS[1] is the account's root; every key below it has the same hash tag.
--
-- A row's record (JSON): s state, n attempts, c cost of the attempt, h credits held for it, b credits booked, k credits
-- told, g generation id, o the intent's nonce, q what an uncertain attempt before this one may have taken, m how often
-- it was not taken, u links, x their end, y made at, p files, e error. Rows that nobody has touched have none.
local root = KEYS[1]
local INTENTS, DOUBTS, VOID = root .. ':intents', root .. ':doubts', root .. ':void:'
local WORKERS, HOLD, BATCHES = root .. ':workers', root .. ':hold', root .. ':batches'
local KNOWN, SHARED, TAKEN, CHARGED = root .. ':known', root .. ':shared', root .. ':taken', root .. ':charged'

local function batch_key(b) return root .. ':b:' .. b end
local function open_key(b) return root .. ':open:' .. b end
local function dirty_key(b) return root .. ':dirty:' .. b end
local function shard_key(b, n) return root .. ':s:' .. b .. ':' .. n end
local function late_key(b) return root .. ':late:' .. b end
local function rows_key(b, n) return root .. ':r:' .. b .. ':' .. n end
local function owned_key(worker) return root .. ':owned:' .. worker end
local function name_of(b, n, i) return b .. '/' .. n .. '/' .. i end

local function num(value) return tonumber(value) or 0 end

local function clock()
    local t = redis.call('TIME')
    return t[1] * 1000 + math.floor(t[2] / 1000)
end
local now = clock()

local function alive(worker)
    local ends = worker and redis.call('ZSCORE', WORKERS, worker)
    return ends and num(ends) > now
end

local function get_row(b, n, i)
    local text = redis.call('HGET', rows_key(b, n), i)
    local row = text and cjson.decode(text) or { s = 'ready', n = 0 }
    return row, { s = row.s, h = row.h, b = row.b }
end

local function put_row(b, n, i, row, was)
    local batch = batch_key(b)
    redis.call('HSET', rows_key(b, n), i, cjson.encode(row))
    if row.s ~= was.s then
        redis.call('HINCRBY', batch, 'n:' .. was.s, -1)
        redis.call('HINCRBY', batch, 'n:' .. row.s, 1)
    end
    redis.call('HINCRBY', batch, 'spent', num(row.b) - num(was.b))
    redis.call('HINCRBY', batch, 'reserved', num(row.h) - num(was.h))
    redis.call('ZADD', dirty_key(b), redis.call('HINCRBY', batch, 'seq', 1), n .. ':' .. i)
end

-- The submission took nothing: the row is what it was before, ready or uncertain.
local function take_back(b, row)
    row.n = math.max(0, num(row.n) - 1)
    row.o = nil
    if row.q then
        redis.call('HINCRBY', batch_key(b), 'doubtful', -row.q)
        row.s, row.h, row.c, row.q = 'uncertain', row.q, row.q, nil
    else
        row.s, row.h, row.c, row.e = 'ready', nil, nil, nil
    end
end

-- The service took credits for an intent that was open: what the account has by now, as far as our answers tell.
local function charge(told)
    redis.call('INCR', TAKEN)
    if not redis.call('GET', KNOWN) then return end
    if told == '' then
        redis.call('DEL', KNOWN)
    else
        redis.call('DECRBY', KNOWN, told)
        redis.call('INCRBY', CHARGED, told)
    end
end

local function free_shard(b, n, at)
    redis.call('HDEL', shard_key(b, n), 'owner')
    redis.call('ZADD', open_key(b), at, n)
end

-- What comes late opens its shard again: somebody has to take the row further.
local function open_again(b, n)
    local state = redis.call('HGET', shard_key(b, n), 'state')
    if state and state ~= 'open' then
        redis.call('HSET', shard_key(b, n), 'state', 'open')
        redis.call('HINCRBY', batch_key(b), 'ended', -1)
        redis.call('ZADD', open_key(b), now, n)
    end
end

-- The batch is over, or Redis had forgotten it. What is told of it still is kept for a month, for whoever runs it again.
-- Steps come in any order, by several connections: a row is as far as the furthest, and has the facts of all of them.
local RANK = { running = 1, completed = 2, stored = 4 }
local function keep_late(b, i, patch)
    local key = late_key(b)
    local text = redis.call('HGET', key, i)
    local row = text and cjson.decode(text) or {}
    if row.g and patch.g and row.g ~= patch.g then return 'other' end
    local further = (RANK[patch.s] or 3) >= (RANK[row.s] or row.s and 3 or 0)
    if further then row.s, row.e = patch.s, patch.e end
    for _, field in ipairs({ 'g', 'k', 'u', 'x', 'y', 'p' }) do
        if patch[field] ~= nil and (further or row[field] == nil) then row[field] = patch[field] end
    end
    redis.call('HSET', key, i, cjson.encode(row))
    redis.call('EXPIRE', key, 30 * 86400)
    return 'late'
end

local function free_all(worker)
    for _, name in ipairs(redis.call('SMEMBERS', owned_key(worker))) do
        local b, n = string.match(name, '^(.-)/(.+)$')
        if redis.call('HGET', shard_key(b, n), 'owner') == worker then free_shard(b, n, now) end
    end
    redis.call('DEL', owned_key(worker))
end

-- Intents whose answers won't come become doubts: their worker is gone, and so is the time in which one could come.
-- Returns how many are on their way, and how many belong to the dead but are not due.
local function sort_intents()
    local live, pending = 0, 0
    local all = redis.call('HGETALL', INTENTS)
    for at = 1, #all, 2 do
        local name, intent = all[at], cjson.decode(all[at + 1])
        if alive(intent.w) then
            live = live + 1
        elseif num(redis.call('ZSCORE', WORKERS, intent.w) or intent.t) + intent.a > now then
            pending = pending + 1
        else
            redis.call('HSET', DOUBTS, name, all[at + 1])
            redis.call('HDEL', INTENTS, name)
        end
    end
    return live, pending
end
