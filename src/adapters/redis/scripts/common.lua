-- What every script begins with. ARGV[1] is the prefix of all keys, ARGV[2] the hash tag of the shard,
-- ARGV[3] the time. Times are decimal strings and are handed on as they came, since Lua's own way of writing
-- a number drops digits; only comparisons make numbers of them.
--
-- Redis does not take back what a script wrote before it failed. So each script first reads every key that it
-- will write, where a key of another type fails it, and writes only then. (Memory is checked by the server at
-- the first write of a script, permissions when the store is opened.)

local prefix, now = ARGV[1], ARGV[3]
local shard = prefix .. ARGV[2] .. ':'
local TOKEN, WORKFLOWS = shard .. 'token', shard .. 'workflows'
local CLOSED, EXPIRING = shard .. 'closed', shard .. 'expiring'
local WORKERS, ALIVE = shard .. 'workers', shard .. 'alive'
local ENDS = {'completed', 'failed', 'cancelled'}

-- What is said of the length of a journal that does not grow any more.
local ENDED = -1

local function head_of(id) return shard .. 'head:' .. id end
local function journal_of(id) return shard .. 'journal:' .. id end
local function inbox_of(id) return shard .. 'inbox:' .. id end
local function message_ids_of(id) return shard .. 'message-ids:' .. id end
local function mail_of(worker) return shard .. 'mail:' .. worker end
local function owned_by(worker) return shard .. 'owned:' .. worker end
-- The length keeps two names apart that hold colons themselves.
local function ready_of(queue, workflow) return shard .. 'ready:' .. #queue .. ':' .. queue .. ':' .. workflow end
local function listed_of(status, workflow) return shard .. 'listed:' .. status .. ':' .. workflow end

local function announce_work(queue) redis.call('PUBLISH', prefix .. 'work:' .. queue, '') end
-- Those who read along and those who only wait for the end listen on channels of their own.
local function announce_journal(id, length) redis.call('PUBLISH', prefix .. 'journal:' .. id, length) end
local function announce_end(id)
    announce_journal(id, ENDED)
    redis.call('PUBLISH', prefix .. 'end:' .. id, ENDED)
end

local function later(one, other) if tonumber(one) > tonumber(other) then return one end return other end

-- An execution's head: its fields, one after another, and the length of its journal.
local function read_head(id)
    return {redis.call('HGETALL', head_of(id)), redis.call('LLEN', journal_of(id))}
end

-- While a slot of a cluster is moved key by key, a node fails who asks for a key that is not there (for it may be
-- elsewhere by now). So we ask for one that never is, and all is refused until the slot has moved as a whole.
-- (Text has no shard; its one key is checked by the server.)
if ARGV[2] ~= '' then redis.call('EXISTS', shard .. 'nothing') end
