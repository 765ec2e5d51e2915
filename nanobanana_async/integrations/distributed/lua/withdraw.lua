-- Refused, or never sent: told by the worker that made the intent, so it is true whatever became of its lease.
local b, n, i, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local row, was = get_row(b, n, i)
local doubted = row.s == 'intent' or row.s == 'uncertain' or row.s == 'lost' -- the last two if it was judged meanwhile
if not doubted or row.o ~= nonce then
    redis.call('SET', VOID .. nonce, '1', 'PX', 600000) -- an intent that is still on its way to us must not come in
    return row.s
end
redis.call('HDEL', INTENTS, name_of(b, n, i))
redis.call('HDEL', DOUBTS, name_of(b, n, i))
take_back(b, row)
row.b, row.k = nil, nil
put_row(b, n, i, row, was)
open_again(b, n)
return row.s
