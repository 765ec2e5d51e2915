-- A worker's process is gone for certain, so no answer will come to it: its lease and its intents are over now.
local longest = 0
for _, text in ipairs(redis.call('HVALS', INTENTS)) do
    local intent = cjson.decode(text)
    if intent.w == ARGV[1] then longest = math.max(longest, intent.a) end
end
redis.call('ZADD', WORKERS, now - longest - 1, ARGV[1])
free_all(ARGV[1])
return 'ok'
