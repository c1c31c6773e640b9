-- Returns {id, head} of up to `limit` executions, the newest first, with the given statuses and workflow ('' is any).
local limit, workflow = tonumber(ARGV[4]), ARGV[5]
local FIRST_STATUS = 6

local workflows = {workflow}
if workflow == '' then workflows = redis.call('SMEMBERS', WORKFLOWS) end
local found = {}
for _, name in ipairs(workflows) do
    for number = FIRST_STATUS, #ARGV do
        local newest = redis.call('ZREVRANGE', listed_of(ARGV[number], name), 0, limit - 1, 'WITHSCORES')
        for entry = 1, #newest, 2 do
            found[#found + 1] = {id = newest[entry], created = tonumber(newest[entry + 1])}
        end
    end
end
table.sort(found, function (one, other)
    return one.created > other.created or (one.created == other.created and one.id > other.id)
end)
local heads = {}
for number = 1, #found do
    if #heads == limit then break end
    -- One that was damaged or deleted must not hide the others.
    local id = found[number].id
    if type_of(head_of(id)) == 'hash' then
        heads[#heads + 1] = {id, read_head(id)}
    end
end
return heads
