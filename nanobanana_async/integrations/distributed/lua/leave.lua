-- A worker says good-bye. Its intents are due when their answers can't come any more. Whether it was known.
free_all(ARGV[1])
return redis.call('ZREM', WORKERS, ARGV[1])
