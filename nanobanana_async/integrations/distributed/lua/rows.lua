-- What is known of a shard's rows.
return redis.call('HGETALL', rows_key(ARGV[1], ARGV[2]))
