-- Deletes up to `limit` ended executions that were kept long enough, with all their keys; returns how many.
local ended_before, limit = ARGV[4], tonumber(ARGV[5])

local over = redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', now, 'LIMIT', 0, limit)
if ended_before ~= '' then
    local old = redis.call('ZRANGEBYSCORE', BY_END, '-inf', '(' .. ended_before, 'LIMIT', 0, limit - #over)
    for _, id in ipairs(old) do over[#over + 1] = id end
end
for _, id in ipairs(over) do
    local flat, fields = redis.pcall('HGETALL', head_of(id)), {}
    if not flat.err then
        for number = 1, #flat, 2 do fields[flat[number]] = flat[number + 1] end
    end
    redis.call('UNLINK', head_of(id), journal_of(id), inbox_of(id), message_ids_of(id), overview_key(id))
    redis.call('ZREM', EXPIRING, id)
    redis.call('ZREM', BY_END, id)
    redis.call('ZREM', IDS, id)
    announce_journal(id, 0)
    for name, value in pairs(fields) do
        if name:sub(1, 4) == 'tag:' then redis.pcall('ZREM', tagged_of(name:sub(5), value), id) end
    end
    local workflow, status = fields.workflow, fields.status
    if workflow and status then
        redis.call('ZREM', listed_of(status, workflow), id)
        local left = 0
        for _, each in ipairs(STATUSES) do left = left + redis.call('EXISTS', listed_of(each, workflow)) end
        if left == 0 then redis.call('SREM', WORKFLOWS, workflow) end
    end
end
return #over
