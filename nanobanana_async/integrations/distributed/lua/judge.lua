-- What became of the submissions in doubt, by a balance that was read while nothing could be submitted.
local token, actual, memory_ms, max_misses, apply = ARGV[1], num(ARGV[2]), num(ARGV[3]), num(ARGV[4]), ARGV[5] == '1'
if redis.call('GET', HOLD) ~= token or redis.call('HLEN', INTENTS) > 0 then return 'again' end

local doubts, total, sure = redis.call('HGETALL', DOUBTS), 0, true
for at = 2, #doubts, 2 do
    local cost = cjson.decode(doubts[at]).c
    total, sure = total + num(cost), sure and cost ~= nil
end
local known, verdict = tonumber(redis.call('GET', KNOWN)), 'unknown'
if known and now >= num(redis.call('GET', SHARED)) + memory_ms then
    if known == actual then
        verdict = 'not taken'
    elseif sure and known - actual == total then
        verdict = 'taken'
    end
end
if not apply then return verdict end

local taken = num(redis.call('GET', TAKEN))
for at = 1, #doubts, 2 do
    local name, intent = doubts[at], cjson.decode(doubts[at + 1])
    local b, n, i = string.match(name, '^(.-)/(.-)/(.+)$')
    local row, was = get_row(b, n, i)
    if row.s == 'intent' and row.o == intent.o then
        if verdict == 'taken' then
            row.s, row.h, row.b, row.k, row.e = 'lost', nil, row.c, row.c, ARGV[6]
        elseif verdict == 'unknown' then
            row.s, row.e = 'uncertain', ARGV[7]
            if row.q then row.q = nil end
        else
            take_back(b, row)
            row.m = num(row.m) + 1
            if not row.j then row.j = taken end
            if row.m >= max_misses and taken == row.j then
                redis.call('HSETNX', batch_key(b), 'stopped', ARGV[9])
            elseif row.m >= max_misses and row.s == 'ready' then -- others are taken: it is the row's fault
                row.s, row.e = 'failed', ARGV[8]
            end
        end
        put_row(b, n, i, row, was)
    end
end
redis.call('DEL', DOUBTS)
redis.call('SET', KNOWN, actual)
redis.call('DEL', HOLD)
return verdict
