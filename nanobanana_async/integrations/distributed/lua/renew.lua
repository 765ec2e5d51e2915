-- It goes on, unless it has ended: a lease that ended is never revived.
if not alive(ARGV[1]) then return 0 end
redis.call('ZADD', WORKERS, now + num(ARGV[2]), ARGV[1])
return 1
