-- Makes a held execution claimable; returns 'resumed', 'not held', 'unknown', or the status of one that has ended.
local id = ARGV[4]

local fields = redis.call('HMGET', head_of(id), 'status', 'workflow', 'queue', 'held')
local status, workflow, queue, held = fields[1], fields[2], fields[3], fields[4]
if not status then return 'unknown' end
if status ~= 'running' then return status end
if not held then return 'not held' end
redis.call('ZSCORE', ready_of(queue, workflow), id)

redis.call('HDEL', head_of(id), 'held', 'fruitless', 'note')
redis.call('ZADD', ready_of(queue, workflow), now, id)
announce_work(queue)
return 'resumed'
