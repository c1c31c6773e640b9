-- Appends records under a claim and applies the rest of the commit. Returns 'appended', 'stale' if the claim
-- is, or 'unseen' if there are messages that the writer has not seen.
local id, token, position = ARGV[4], ARGV[5], tonumber(ARGV[6])
local consumed, status, release, wake_at, reason = ARGV[7], ARGV[8], ARGV[9], ARGV[10], given(ARGV[11])
local fruitless, hold, overview, waiting = ARGV[12], ARGV[13], given(ARGV[14]), given(ARGV[15])
local seen, tags = tonumber(ARGV[16]), tonumber(ARGV[17])
local FIRST_TAG, FIRST_RECORD = 18, 18 + 2 * tags

local head, journal, inbox = head_of(id), journal_of(id), inbox_of(id)
local fields = redis.call('HMGET', head,
    'token', 'owner', 'sent', 'consumed', 'workflow', 'queue', 'keep', 'created', 'reason', 'fruitless', 'waiting')
local owner, workflow, queue, keep, created, old_reason, old_fruitless, old_waiting =
    fields[2], fields[5], fields[6], fields[7], fields[8], fields[9], fields[10] or '0', fields[11] or nil
if fields[1] ~= token or not owner or redis.call('LLEN', journal) ~= position then return 'stale' end
local sent, read = tonumber(fields[3]), tonumber(fields[4])
-- The head was changed by somebody else: the next claim finds that and says so.
if not sent or not read or not workflow or not queue or not tonumber(created or '') then return 'stale' end
if seen and sent > seen then return 'unseen' end
redis.call('LLEN', inbox)
redis.call('SISMEMBER', mail_of(owner), id)
local ends, ready = status ~= '', ready_of(queue, workflow)
-- The status under which it is listed from now on.
local listed = ends and status or 'running'
if not ends and release == '1' and hold == '1' and wake_at == '' then listed = PAUSED end
if ends then waiting = '' end
if overview then check_overview(id) end
check_wait(id, old_waiting, waiting)
if listed ~= 'running' then check_lists(id, workflow, 'running', listed) end
local changes = tag_changes(id, FIRST_TAG, tags)
if ends or release == '1' then
    redis.call('ZSCORE', ready, id)
    redis.call('SISMEMBER', owned_by(owner), id)
end
local shelf, due = shelf_of(now, keep)
if ends then redis.call('ZSCORE', shelf, id) end

for number = FIRST_RECORD, #ARGV do redis.call('RPUSH', journal, ARGV[number]) end
if reason then redis.call('HSET', head, 'reason', reason)
elseif old_reason then redis.call('HDEL', head, 'reason') end
if fruitless ~= '' and fruitless ~= old_fruitless then redis.call('HSET', head, 'fruitless', fruitless) end
if consumed ~= '' and tonumber(consumed) > read then
    redis.call('LTRIM', inbox, 2 * (tonumber(consumed) - read), -1)
    redis.call('HSET', head, 'consumed', consumed)
    read = tonumber(consumed)
    if read >= sent then redis.call('SREM', mail_of(owner), id) end
end
set_overview(id, overview)
wait_for(id, created, old_waiting, waiting)
change_tags(id, created, changes)
list_as(id, workflow, created, 'running', listed)
if ends then
    redis.call('HSET', head, 'status', status, 'ended', now)
    redis.call('HDEL', head, 'owner', 'hold')
    redis.call('ZREM', ready, id)
    redis.call('SREM', mail_of(owner), id)
    redis.call('SREM', owned_by(owner), id)
    -- The messages that nobody has read stay: the execution may be opened again.
    redis.call('UNLINK', message_ids_of(id))
    redis.call('ZADD', shelf, due, id)
elseif release == '1' then
    redis.call('HDEL', head, 'owner', 'hold')
    redis.call('SREM', mail_of(owner), id)
    redis.call('SREM', owned_by(owner), id)
    if hold == '1' then redis.call('HSET', head, 'hold', wake_at == '' and UNTIL_RESUMED or 'until its time') end
    if sent > read and hold == '0' then redis.call('ZADD', ready, now, id)
    elseif wake_at ~= '' then redis.call('ZADD', ready, later(now, wake_at), id)
    else redis.call('ZREM', ready, id) end
    announce_work(queue)
end
if ends then announce_end(id) else announce_journal(id, redis.call('LLEN', journal)) end
return 'appended'
