-- Made, stored, or at an end: what the service said or what is on disk. True whoever tells it, and told twice the same.
local b, n, i, patch = ARGV[1], ARGV[2], ARGV[3], cjson.decode(ARGV[4])
local name = name_of(b, n, i)
if redis.call('EXISTS', batch_key(b)) == 0 then return keep_late(b, i, patch) end
local row, was = get_row(b, n, i)
if row.s == 'stored' then return 'ok' end
if patch.g and row.g and patch.g ~= row.g then return 'other' end

if row.s == 'intent' then -- it ended in the answer to its submission
    redis.call('HDEL', INTENTS, name)
    redis.call('HDEL', DOUBTS, name)
    if patch.k or patch.g then charge(patch.k or '') end
end
for _, field in ipairs({ 'g', 'k', 'u', 'x', 'y', 'p' }) do
    if patch[field] ~= nil then row[field] = patch[field] end
end
row.s, row.e, row.o, row.q = patch.s, patch.e, nil, nil
if row.k then
    row.b, row.h = row.k, nil
elseif row.s == 'failed' and not row.g then
    row.b, row.h = nil, nil -- a refusal
end
put_row(b, n, i, row, was)
return 'ok'
