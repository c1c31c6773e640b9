-- Deletes up to `limit` ended executions that were kept long enough, with all their keys; returns how many.
local ended_before, limit = ARGV[4], tonumber(ARGV[5])

local over = redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', now, 'LIMIT', 0, limit)
if ended_before ~= '' then
    local old = redis.call('ZRANGEBYSCORE', BY_END, '-inf', '(' .. ended_before, 'LIMIT', 0, limit - #over)
    for _, id in ipairs(old) do over[#over + 1] = id end
end
for _, id in ipairs(over) do
    local fields = redis.pcall('HMGET', head_of(id), 'workflow', 'status')
    redis.call('UNLINK', head_of(id), journal_of(id), inbox_of(id), message_ids_of(id))
    redis.call('ZREM', EXPIRING, id)
    redis.call('ZREM', BY_END, id)
    announce_journal(id, 0)
    if not fields.err and fields[1] and fields[2] then
        local workflow, left = fields[1], redis.call('EXISTS', listed_of('running', fields[1]))
        redis.call('ZREM', listed_of(fields[2], workflow), id)
        for _, status in ipairs(ENDS) do left = left + redis.call('EXISTS', listed_of(status, workflow)) end
        if left == 0 then redis.call('SREM', WORKFLOWS, workflow) end
    end
end
return #over
