-- The beginning of every script. ARGV[1] is the prefix of all keys, ARGV[2] the hash tag of the shard,
-- ARGV[3] the time. Times are decimal strings, and scripts pass them on unchanged: Lua loses digits when it
-- writes a number as text. Scripts turn times into numbers only to compare them.
--
-- When a script fails, Redis keeps what the script has written before. So each script first reads every key
-- that it will write: a key of the wrong type makes it fail there, before its first write. (The server checks
-- its memory at the first write of a script. Permissions are checked when the store is opened.)

local prefix, now = ARGV[1], ARGV[3]
local shard = prefix .. ARGV[2] .. ':'
local TOKEN, WORKFLOWS = shard .. 'token', shard .. 'workflows'
local IDS = shard .. 'ids'
local BY_END, EXPIRING = shard .. 'ended', shard .. 'expiring'
local WORKERS, ALIVE = shard .. 'workers', shard .. 'alive'
local PAUSED = 'paused'
-- The statuses under which executions are listed. One that is held is running, and listed as paused.
local STATUSES = {'running', PAUSED, 'completed', 'failed', 'cancelled', 'terminated'}

-- Stands for the length of a journal whose execution has ended.
local ENDED = -1

-- `hold` in the head of an execution that waits for `resume` and nothing else.
local UNTIL_RESUMED = 'until resumed'

local function head_of(id) return shard .. 'head:' .. id end
local function journal_of(id) return shard .. 'journal:' .. id end
local function inbox_of(id) return shard .. 'inbox:' .. id end
local function message_ids_of(id) return shard .. 'message-ids:' .. id end
local function overview_key(id) return shard .. 'overview:' .. id end
local function mail_of(worker) return shard .. 'mail:' .. worker end
local function owned_by(worker) return shard .. 'owned:' .. worker end
-- The length of the queue's name keeps keys apart when names contain colons.
local function ready_of(queue, workflow) return shard .. 'ready:' .. #queue .. ':' .. queue .. ':' .. workflow end
local function listed_of(status, workflow) return shard .. 'listed:' .. status .. ':' .. workflow end
local function waiting_of(word) return shard .. 'waiting:' .. word end
local function tagged_of(name, value) return shard .. 'tagged:' .. #name .. ':' .. name .. ':' .. value end

local function announce_work(queue) redis.call('PUBLISH', prefix .. 'work:' .. queue, '') end
-- Readers that follow the journal and readers that only wait for the end have channels of their own.
local function announce_journal(id, length) redis.call('PUBLISH', prefix .. 'journal:' .. id, length) end
local function announce_end(id)
    announce_journal(id, ENDED)
    redis.call('PUBLISH', prefix .. 'end:' .. id, ENDED)
end

local function later(one, other) if tonumber(one) > tonumber(other) then return one end return other end

-- Returns the sorted set from which an execution that ends now is forgotten, and its score there.
local function shelf_of(ended, keep)
    if keep then return EXPIRING, string.format('%.17g', tonumber(ended) + tonumber(keep)) end
    return BY_END, ended
end

local function type_of(key) return redis.call('TYPE', key).ok end

local function length_of(id)
    if type_of(journal_of(id)) ~= 'list' then return 0 end
    return redis.call('LLEN', journal_of(id))
end

-- Returns the head of an execution as {name, value, name, value, ...}, the length of its journal (0 if that is gone
-- or of another type), and its overview, if it has one.
local function read_head(id)
    local overview = redis.pcall('GET', overview_key(id))
    return {redis.call('HGETALL', head_of(id)), length_of(id), type(overview) == 'string' and overview or false}
end

-- Texts that may be missing come as '' or with '=' before them.
local function given(argument) return argument ~= '' and argument:sub(2) or nil end

-- Sets the overview; a new text of nil leaves it.
local function check_overview(id) redis.call('GET', overview_key(id)) end
local function set_overview(id, overview) if overview then redis.call('SET', overview_key(id), overview) end end

-- Sets the word for what an execution waits for: a new word of nil leaves it, '' takes it away.
local function check_wait(id, old, new)
    if old then redis.call('ZSCORE', waiting_of(old), id) end
    if new and new ~= '' then redis.call('ZSCORE', waiting_of(new), id) end
end
local function wait_for(id, created, old, new)
    if not new or new == (old or '') then return end
    if old then redis.call('ZREM', waiting_of(old), id) end
    if new == '' then redis.call('HDEL', head_of(id), 'waiting') return end
    redis.call('HSET', head_of(id), 'waiting', new)
    redis.call('ZADD', waiting_of(new), created, id)
end

-- Returns the changes of tags in ARGV: `count` names, each with its value or ''. A tag is a field of the head.
local function tag_changes(id, first, count)
    local changes = {}
    for number = first, first + 2 * count - 1, 2 do
        local name, value = ARGV[number], given(ARGV[number + 1])
        local old = redis.call('HGET', head_of(id), 'tag:' .. name) or nil
        if old then redis.call('ZSCORE', tagged_of(name, old), id) end
        if value then redis.call('ZSCORE', tagged_of(name, value), id) end
        changes[#changes + 1] = {name = name, old = old, value = value}
    end
    return changes
end
local function change_tags(id, created, changes)
    for _, change in ipairs(changes) do
        if change.old then redis.call('ZREM', tagged_of(change.name, change.old), id) end
        if change.value then
            redis.call('HSET', head_of(id), 'tag:' .. change.name, change.value)
            redis.call('ZADD', tagged_of(change.name, change.value), created, id)
        else
            redis.call('HDEL', head_of(id), 'tag:' .. change.name)
        end
    end
end

-- Lists an execution under another status.
local function check_lists(id, workflow, old, new)
    redis.call('ZSCORE', listed_of(old, workflow), id)
    redis.call('ZSCORE', listed_of(new, workflow), id)
end
local function list_as(id, workflow, created, old, new)
    if old == new then return end
    redis.call('ZREM', listed_of(old, workflow), id)
    redis.call('ZADD', listed_of(new, workflow), created, id)
end

-- Returns what is wrong with the keys of an execution that is said to belong to a queue, or nil. Whatever deleted
-- or overwrote a key (an eviction, an expiry, a person) has damaged this execution alone.
local function damage_of(id, queue, workflow)
    local head = head_of(id)
    if type_of(head) ~= 'hash' then return 'its head is gone or is of another type' end
    local fields = redis.call('HMGET', head, 'status', 'queue', 'workflow', 'sent', 'consumed')
    if fields[1] ~= 'running' or not queue or fields[2] ~= queue or not workflow or fields[3] ~= workflow or
        not tonumber(fields[4]) or not tonumber(fields[5]) then return 'its head was changed' end
    if type_of(journal_of(id)) ~= 'list' then return 'its journal is gone or is of another type' end
    local inbox, ids = type_of(inbox_of(id)), type_of(message_ids_of(id))
    if inbox ~= 'list' and (inbox ~= 'none' or tonumber(fields[4]) > tonumber(fields[5])) then
        return 'its inbox is gone or is of another type'
    end
    if ids ~= 'set' and ids ~= 'none' then return 'its message ids are of another type' end
    return nil
end

-- Takes a damaged execution out of its queue, so that nothing else waits for it; says so in its head, if it has one.
local function set_aside(id, ready, damage)
    redis.call('ZREM', ready, id)
    if type_of(head_of(id)) ~= 'hash' then return end
    local owner = redis.call('HGET', head_of(id), 'owner')
    if owner then
        redis.call('SREM', mail_of(owner), id)
        redis.call('SREM', owned_by(owner), id)
    end
    local fields = redis.call('HMGET', head_of(id), 'status', 'workflow', 'created')
    if fields[1] == 'running' and fields[2] and tonumber(fields[3] or '') then
        redis.pcall('ZREM', listed_of('running', fields[2]), id)
        redis.pcall('ZADD', listed_of(PAUSED, fields[2]), fields[3], id)
    end
    redis.call('HDEL', head_of(id), 'owner')
    redis.call('HSET', head_of(id), 'hold', UNTIL_RESUMED, 'reason', 'a key of this execution was deleted or changed: ' .. damage
        .. '; restore it and resume the execution, or start another one')
end

-- While a slot of a cluster is moved key by key, a command fails if its key is not on the node (the key may
-- have moved). So every script first asks for a key that never exists: it then fails until the whole slot has
-- moved, and never works with half of the keys. (Deltas have no shard; the server checks their only key.)
if ARGV[2] ~= '' then redis.call('EXISTS', shard .. 'nothing') end
