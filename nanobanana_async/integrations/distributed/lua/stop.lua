-- What concerns the account or the budget: nobody submits any more until somebody begins the batch again.
local batch = batch_key(ARGV[1])
if redis.call('EXISTS', batch) == 0 then return 'gone' end
redis.call('HSETNX', batch, 'stopped', ARGV[2])
return 'ok'
