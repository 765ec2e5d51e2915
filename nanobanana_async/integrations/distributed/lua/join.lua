-- A worker's lease begins.
redis.call('ZADD', WORKERS, now + num(ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now - 86400000)
return 'ok'
