-- The answer was lost, and won't come any more.
local b, n, i, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local name = name_of(b, n, i)
local intent = redis.call('HGET', INTENTS, name)
if intent and cjson.decode(intent).o == nonce then
    redis.call('HDEL', INTENTS, name)
    redis.call('HSET', DOUBTS, name, intent)
end
return 'ok'
