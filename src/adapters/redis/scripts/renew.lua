-- Makes leases last until a new time; returns the ids of the claims that are lost or released.
local lease_until = ARGV[4]
local FIRST_CLAIM = 5

local lost = {}
for number = FIRST_CLAIM, #ARGV, 2 do
    local id, token = ARGV[number], ARGV[number + 1]
    local fields = redis.call('HMGET', head_of(id), 'token', 'owner', 'queue', 'workflow')
    if fields[1] == token and fields[2] then
        redis.call('ZADD', ready_of(fields[3], fields[4]), lease_until, id)
    else
        lost[#lost + 1] = id
    end
end
return lost
