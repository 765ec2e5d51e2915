-- What was told of a batch's rows when it was over or forgotten.
return redis.call('HGETALL', late_key(ARGV[1]))
