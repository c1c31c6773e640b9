-- Puts a message into an inbox; returns 'sent', 'unknown', or the status of an execution that has ended. An
-- execution whose keys are damaged is set aside and gets no message: then returns {what the damage is}.
local id, message_id, body = ARGV[4], ARGV[5], ARGV[6]

local fields = redis.call('HMGET', head_of(id), 'status', 'workflow', 'queue', 'owner', 'hold')
local status, workflow, queue, owner, hold = fields[1], fields[2], fields[3], fields[4], fields[5]
if not status then return 'unknown' end
if status ~= 'running' then return status end
local damage = damage_of(id, queue, workflow)
if damage then
    if queue and workflow then set_aside(id, ready_of(queue, workflow), damage) end
    return {damage}
end
if redis.call('SISMEMBER', message_ids_of(id), message_id) == 1 then return 'sent' end
redis.call('LLEN', inbox_of(id))
redis.call('ZSCORE', ready_of(queue, workflow), id)
if owner then redis.call('SISMEMBER', mail_of(owner), id) end

redis.call('RPUSH', inbox_of(id), message_id, body)
redis.call('SADD', message_ids_of(id), message_id)
redis.call('HINCRBY', head_of(id), 'sent', 1)
if owner then redis.call('SADD', mail_of(owner), id)
elseif not hold then redis.call('ZADD', ready_of(queue, workflow), 'LT', now, id) end
announce_work(queue)
return 'sent'
