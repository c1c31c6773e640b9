-- Makes leases last until a new time; returns the ids of the claims that are lost or released.
local lease_until = ARGV[4]
local FIRST_CLAIM = 5

local lost = {}
for number = FIRST_CLAIM, #ARGV, 2 do
    local id, token = ARGV[number], ARGV[number + 1]
    -- A head of another type fails the call with an error: that claim is lost, and the others are not.
    local fields = redis.pcall('HMGET', head_of(id), 'token', 'owner', 'queue', 'workflow')
    if not fields.err and fields[1] == token and fields[2] and fields[3] and fields[4] then
        redis.call('ZADD', ready_of(fields[3], fields[4]), lease_until, id)
    else
        lost[#lost + 1] = id
    end
end
return lost
