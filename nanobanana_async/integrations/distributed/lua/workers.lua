-- Leases that began within the last day, those that ended included.
return redis.call('ZRANGE', WORKERS, 0, -1)
