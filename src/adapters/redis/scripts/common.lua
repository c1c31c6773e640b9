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
local CLOSED, EXPIRING = shard .. 'closed', shard .. 'expiring'
local WORKERS, ALIVE = shard .. 'workers', shard .. 'alive'
local ENDS = {'completed', 'failed', 'cancelled'}

-- Stands for the length of a journal whose execution has ended.
local ENDED = -1

-- `hold` in the head of an execution that waits for `resume` and nothing else.
local UNTIL_RESUMED = 'until resumed'

local function head_of(id) return shard .. 'head:' .. id end
local function journal_of(id) return shard .. 'journal:' .. id end
local function inbox_of(id) return shard .. 'inbox:' .. id end
local function message_ids_of(id) return shard .. 'message-ids:' .. id end
local function mail_of(worker) return shard .. 'mail:' .. worker end
local function owned_by(worker) return shard .. 'owned:' .. worker end
-- The length of the queue's name keeps keys apart when names contain colons.
local function ready_of(queue, workflow) return shard .. 'ready:' .. #queue .. ':' .. queue .. ':' .. workflow end
local function listed_of(status, workflow) return shard .. 'listed:' .. status .. ':' .. workflow end

local function announce_work(queue) redis.call('PUBLISH', prefix .. 'work:' .. queue, '') end
-- Readers that follow the journal and readers that only wait for the end have channels of their own.
local function announce_journal(id, length) redis.call('PUBLISH', prefix .. 'journal:' .. id, length) end
local function announce_end(id)
    announce_journal(id, ENDED)
    redis.call('PUBLISH', prefix .. 'end:' .. id, ENDED)
end

local function later(one, other) if tonumber(one) > tonumber(other) then return one end return other end

-- Returns the head of an execution as {name, value, name, value, ...} and the length of its journal.
local function read_head(id)
    return {redis.call('HGETALL', head_of(id)), redis.call('LLEN', journal_of(id))}
end

-- While a slot of a cluster is moved key by key, a command fails if its key is not on the node (the key may
-- have moved). So every script first asks for a key that never exists: it then fails until the whole slot has
-- moved, and never works with half of the keys. (Deltas have no shard; the server checks their only key.)
if ARGV[2] ~= '' then redis.call('EXISTS', shard .. 'nothing') end
