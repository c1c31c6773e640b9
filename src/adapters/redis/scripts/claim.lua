-- Claims up to `limit` executions of a queue and some workflows; the one that has waited longest comes first.
-- Returns {claims, mail, next wake-up time or '', waiting}. Each claim begins with the time at which its
-- execution became claimable, and ends with the owner that was lost (or '') and the count of fruitless claims.
-- `waiting` has that time and the id of the next `peek` claimable executions.
local worker, queue, lease_until, limit, peek = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local FIRST_WORKFLOW = 9

local waiting = {}
for number = FIRST_WORKFLOW, #ARGV do
    local ready = ready_of(queue, ARGV[number])
    local found = redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit + peek)
    for entry = 1, #found, 2 do
        local id, damage = found[entry], damage_of(found[entry], queue, ARGV[number])
        if damage then set_aside(id, ready, damage)
        else waiting[#waiting + 1] = {id = id, since = tonumber(found[entry + 1]), at = found[entry + 1]} end
    end
end
table.sort(waiting, function (one, other)
    return one.since < other.since or (one.since == other.since and one.id < other.id)
end)

-- A token is at least the time in microseconds, not only a counter. A server that lost its last writes (such as
-- a replica that takes over) could count to the same token again, while the first owner of it is still at work.
local token = math.max(tonumber(redis.call('GET', TOKEN) or 0) or 0, math.floor(tonumber(now) * 1e6))

local claims = {}
for number = 1, math.min(limit, #waiting) do
    local id = waiting[number].id
    local head = head_of(id)
    local fields = redis.call('HMGET', head, 'workflow', 'sent', 'consumed', 'owner', 'fruitless')
    local workflow, sent, consumed, owner = fields[1], tonumber(fields[2]), tonumber(fields[3]), fields[4]
    local fruitless = tonumber(fields[5] or 0) or 0
    local length = redis.call('LLEN', journal_of(id))
    redis.call('SISMEMBER', mail_of(worker), id)
    redis.call('SISMEMBER', owned_by(worker), id)
    token = token + 1
    redis.call('SET', TOKEN, string.format('%.0f', token))
    redis.call('HSET', head, 'owner', worker, 'token', string.format('%.0f', token))
    redis.call('ZADD', ready_of(queue, workflow), lease_until, id)
    if owner then
        fruitless = fruitless + 1
        redis.call('HSET', head, 'fruitless', fruitless)
        redis.call('SREM', mail_of(owner), id)
        redis.call('SREM', owned_by(owner), id)
    end
    redis.call('SADD', owned_by(worker), id)
    if sent > consumed then redis.call('SADD', mail_of(worker), id) end
    claims[number] = {waiting[number].at, id, workflow, token, length, consumed, owner or '', fruitless}
end

local next_wake_at = ''
for number = FIRST_WORKFLOW, #ARGV do
    local first = redis.call('ZRANGE', ready_of(queue, ARGV[number]), 0, 0, 'WITHSCORES')
    if first[2] and (next_wake_at == '' or tonumber(first[2]) < tonumber(next_wake_at)) then
        next_wake_at = first[2]
    end
end
local left = {}
for number = limit + 1, math.min(limit + peek, #waiting) do
    left[#left + 1] = {waiting[number].at, waiting[number].id}
end
return {claims, redis.call('SMEMBERS', mail_of(worker)), next_wake_at, left}
