-- Returns {number, messages}: the messages as id, body, id, body, ... and the number of the one before them.
local id, after = ARGV[4], tonumber(ARGV[5])

local consumed = tonumber(redis.call('HGET', head_of(id), 'consumed') or 0)
local from = math.max(after, consumed)
return {from, redis.call('LRANGE', inbox_of(id), 2 * (from - consumed), -1)}
