-- Makes an execution claimable that was released with `hold`. Returns 'resumed', 'not held', 'unknown', or the
-- status of an execution that has ended.
local id = ARGV[4]

local fields = redis.call('HMGET', head_of(id), 'status', 'workflow', 'queue', 'owner', 'hold', 'created', 'waiting')
local status, workflow, queue, owner, hold, created, waiting =
    fields[1], fields[2], fields[3], fields[4], fields[5], fields[6], fields[7] or nil
if not status then return 'unknown' end
if status ~= 'running' then return status end
if owner or not hold then return 'not held' end
redis.call('ZSCORE', ready_of(queue, workflow), id)
check_lists(id, workflow, PAUSED, 'running')
check_wait(id, waiting, '')

redis.call('HDEL', head_of(id), 'hold', 'fruitless', 'reason')
redis.call('ZADD', ready_of(queue, workflow), now, id)
wait_for(id, created, waiting, '')
if hold == UNTIL_RESUMED then list_as(id, workflow, created, PAUSED, 'running') end
announce_work(queue)
return 'resumed'
