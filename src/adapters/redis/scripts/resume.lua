-- Makes an execution claimable that was released with `hold`. Returns 'resumed', 'not held', 'unknown', or the
-- status of an execution that has ended.
local id = ARGV[4]

local fields = redis.call('HMGET', head_of(id), 'status', 'workflow', 'queue', 'owner', 'hold')
local status, workflow, queue, owner, hold = fields[1], fields[2], fields[3], fields[4], fields[5]
if not status then return 'unknown' end
if status ~= 'running' then return status end
if owner or not hold then return 'not held' end
redis.call('ZSCORE', ready_of(queue, workflow), id)

redis.call('HDEL', head_of(id), 'hold', 'fruitless', 'reason')
redis.call('ZADD', ready_of(queue, workflow), now, id)
announce_work(queue)
return 'resumed'
