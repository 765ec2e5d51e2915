-- Notice was taken of all changes up to this one. A row that has changed since has a higher number.
return redis.call('ZREMRANGEBYSCORE', dirty_key(ARGV[1]), '-inf', ARGV[2])
