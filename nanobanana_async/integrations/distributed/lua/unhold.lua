-- Let submissions through again.
if redis.call('GET', HOLD) == ARGV[1] then redis.call('DEL', HOLD) end
return 'ok'
