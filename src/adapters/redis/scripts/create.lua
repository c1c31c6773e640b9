-- Creates an execution unless its id exists; returns {1 if it is new or else 0, head}.
local id, workflow, queue, fingerprint, keep = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local reason, overview, waiting, ended = given(ARGV[9]), given(ARGV[10]), given(ARGV[11]), ARGV[12]
local tags = tonumber(ARGV[13])
local FIRST_TAG, FIRST_RECORD = 14, 14 + 2 * tags

if redis.call('EXISTS', head_of(id)) == 1 then return {0, read_head(id)} end
local ends = ended ~= ''
local status = ends and ended or reason and PAUSED or 'running'
local shelf, due = shelf_of(now, keep ~= '' and keep)
if ends then redis.call('ZSCORE', shelf, id) end
redis.call('ZSCORE', ready_of(queue, workflow), id)
redis.call('ZSCORE', listed_of(status, workflow), id)
redis.call('SISMEMBER', WORKFLOWS, workflow)
redis.call('ZSCORE', IDS, id)
check_overview(id)
check_wait(id, nil, waiting)
local changes = tag_changes(id, FIRST_TAG, tags)
if redis.call('LLEN', journal_of(id)) > 0 then return redis.error_reply('ORPHAN a journal without a head') end

redis.call('HSET', head_of(id), 'workflow', workflow, 'queue', queue, 'fingerprint', fingerprint,
    'status', ends and ended or 'running', 'created', now, 'sent', 0, 'consumed', 0)
if keep ~= '' then redis.call('HSET', head_of(id), 'keep', keep) end
for number = FIRST_RECORD, #ARGV do redis.call('RPUSH', journal_of(id), ARGV[number]) end
if ends then
    redis.call('HSET', head_of(id), 'ended', now)
    redis.call('ZADD', shelf, due, id)
elseif reason then redis.call('HSET', head_of(id), 'hold', UNTIL_RESUMED, 'reason', reason)
else redis.call('ZADD', ready_of(queue, workflow), now, id) end
redis.call('ZADD', listed_of(status, workflow), now, id)
redis.call('ZADD', IDS, 0, id)
redis.call('SADD', WORKFLOWS, workflow)
set_overview(id, overview)
wait_for(id, now, nil, waiting)
change_tags(id, now, changes)
announce_work(queue)
if ends then announce_end(id) else announce_journal(id, #ARGV - FIRST_RECORD + 1) end
return {1, read_head(id)}
