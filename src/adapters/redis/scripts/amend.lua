-- Adds a record without a claim and sets the status. Returns 'amended', 'longer' if the journal does not hold
-- exactly `position` records, 'unknown', or the status of an execution that has ended already.
local id, position, status, record = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]

local head, journal = head_of(id), journal_of(id)
local fields = redis.call('HMGET', head, 'status', 'workflow', 'queue', 'keep', 'created', 'owner', 'hold', 'waiting')
local old_status, workflow, queue, keep, created, owner, hold, old_waiting =
    fields[1], fields[2], fields[3], fields[4], fields[5], fields[6], fields[7], fields[8] or nil
if not old_status then return 'unknown' end
local reopens = status == 'running'
if not reopens and old_status ~= 'running' then return old_status end
if redis.call('LLEN', journal) ~= position then return 'longer' end
local ready = ready_of(queue, workflow)
redis.call('ZSCORE', ready, id)
local listed = old_status
if old_status == 'running' and hold == UNTIL_RESUMED and not owner then listed = PAUSED end
check_lists(id, workflow, listed, status)
check_wait(id, old_waiting, '')
redis.call('ZSCORE', BY_END, id)
redis.call('ZSCORE', EXPIRING, id)
if owner then
    redis.call('SISMEMBER', mail_of(owner), id)
    redis.call('SISMEMBER', owned_by(owner), id)
end

redis.call('RPUSH', journal, record)
redis.call('HDEL', head, 'owner', 'hold', 'reason', 'fruitless')
redis.call('HSET', head, 'status', status)
if owner then
    redis.call('SREM', mail_of(owner), id)
    redis.call('SREM', owned_by(owner), id)
end
wait_for(id, created, old_waiting, '')
list_as(id, workflow, created, listed, status)
if reopens then
    redis.call('HDEL', head, 'ended')
    redis.call('ZREM', BY_END, id)
    redis.call('ZREM', EXPIRING, id)
    redis.call('ZADD', ready, now, id)
    announce_journal(id, position + 1)
    -- Whoever waits for the end must ask again.
    redis.call('PUBLISH', prefix .. 'end:' .. id, '')
else
    redis.call('HSET', head, 'ended', now)
    redis.call('ZREM', ready, id)
    redis.call('UNLINK', message_ids_of(id))
    local shelf, due = shelf_of(now, keep)
    redis.call('ZADD', shelf, due, id)
    announce_end(id)
end
announce_work(queue)
return 'amended'
