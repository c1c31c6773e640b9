-- Returns the number of the last message before those that follow, and the messages: id, body, id, body, ...
local id, after = ARGV[4], tonumber(ARGV[5])

local consumed = tonumber(redis.call('HGET', head_of(id), 'consumed') or 0)
local from = math.max(after, consumed)
return {from, redis.call('LRANGE', inbox_of(id), 2 * (from - consumed), -1)}
