-- Returns {number, messages}: the messages as id, body, id, body, ... and the number of the one before them.
-- Without a limit, all of them.
local id, after, limit = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])

local consumed = tonumber(redis.call('HGET', head_of(id), 'consumed') or 0)
local from = math.max(after, consumed)
local first = 2 * (from - consumed)
return {from, redis.call('LRANGE', inbox_of(id), first, limit and first + 2 * limit - 1 or -1)}
