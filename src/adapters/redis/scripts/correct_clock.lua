-- Returns {version, seconds}: what to add to the server's clock, as text. If the correction still has the given
-- version, and `seconds` is not '', that becomes the new one first.
local version, seconds = ARGV[4], ARGV[5]
local CLOCK = shard .. 'clock'

local known = redis.call('HMGET', CLOCK, 'version', 'seconds')
local newest, correction = known[1] or '0', known[2] or '0'
if seconds ~= '' and newest == version then
    newest, correction = string.format('%.0f', tonumber(newest) + 1), seconds
    redis.call('HSET', CLOCK, 'version', newest, 'seconds', correction)
end
return {newest, correction}
