-- A worker says good-bye. Its intents are due when their answers can't come any more.
free_all(ARGV[1])
redis.call('ZREM', WORKERS, ARGV[1])
return 'ok'
