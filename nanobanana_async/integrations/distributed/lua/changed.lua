-- Rows that changed since somebody last took notice, the oldest change first: number of the change, place, record.
local b, found = ARGV[1], {}
local names = redis.call('ZRANGE', dirty_key(b), 0, num(ARGV[2]) - 1, 'WITHSCORES')
for at = 1, #names, 2 do
    local n, i = string.match(names[at], '^(.-):(.+)$')
    found[#found + 1] = { names[at + 1], n, i, redis.call('HGET', rows_key(b, n), i) }
end
return found
