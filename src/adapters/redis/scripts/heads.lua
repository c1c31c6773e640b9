-- Returns {heads, next place}: executions that a filter finds, the newest first, each as {id, head}. After a number
-- of executions that it does not find the script ends; then `next place` is {created, id}, to go on from. It is
-- empty when no execution is left.
local limit, after_created, after_id, first_at, end_at = tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local workflow, status, waiting, prefix_of_id = given(ARGV[9]), given(ARGV[10]), given(ARGV[11]), ARGV[12]
local FIRST_TAG = 13
local LOOKED_AT_MAX = 2000
-- So many executions, and no more, are found by the beginning of their ids and sorted.
local FEW_IDS = 1000

-- Sorted sets compare ids byte by byte. Lua compares text as the locale of the server does.
local function is_above(one, other)
    for number = 1, math.min(#one, #other) do
        local a, b = one:byte(number), other:byte(number)
        if a ~= b then return a > b end
    end
    return #one > #other
end

-- Returns how many executions of a sorted set come before those that are wanted, the newest first.
local function rank_of_first(key)
    local rank = 0
    if end_at ~= '' then rank = redis.call('ZCOUNT', key, end_at, '+inf') end
    if after_created == '' then return rank end
    local low = redis.call('ZCOUNT', key, '(' .. after_created, '+inf')
    local high = low + redis.call('ZCOUNT', key, after_created, after_created)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if is_above(after_id, redis.call('ZREVRANGE', key, middle, middle)[1]) then high = middle
        else low = middle + 1 end
    end
    return math.max(rank, low)
end

-- Returns {id, created, id, created, ...}, the newest first: all executions whose id begins as it should, from the
-- place on. Returns nil if they are not few.
local function few_ids()
    if prefix_of_id == '' then return nil end
    -- No byte of UTF-8 is 255.
    local ids = redis.call('ZRANGE', IDS, '[' .. prefix_of_id, '(' .. prefix_of_id .. '\255', 'BYLEX',
        'LIMIT', 0, FEW_IDS + 1)
    if #ids > FEW_IDS then return nil end
    local found = {}
    for place, id in ipairs(ids) do
        -- A head that was damaged may be of another type; then this is an error, as a table.
        local at = redis.pcall('HGET', head_of(id), 'created')
        local created = type(at) == 'string' and tonumber(at)
        if created and (end_at == '' or created < tonumber(end_at)) and (after_created == ''
            or created < tonumber(after_created)
            or created == tonumber(after_created) and is_above(after_id, id)) then
            found[#found + 1] = {id = id, at = at, created = created, place = place}
        end
    end
    table.sort(found, function (one, other)
        return one.created > other.created or one.created == other.created and one.place > other.place
    end)
    local flat = {}
    for _, one in ipairs(found) do
        flat[#flat + 1] = one.id
        flat[#flat + 1] = one.at
    end
    return flat
end

-- The sorted sets that have every execution that is wanted. Whatever else the filter says is looked up.
local few, keys = few_ids(), {}
if few then
    -- They are read already.
elseif ARGV[FIRST_TAG] then keys[1] = tagged_of(ARGV[FIRST_TAG], ARGV[FIRST_TAG + 1])
elseif waiting then keys[1] = waiting_of(waiting)
else
    for _, name in ipairs(workflow and {workflow} or redis.call('SMEMBERS', WORKFLOWS)) do
        for _, each in ipairs(status and {status} or STATUSES) do keys[#keys + 1] = listed_of(each, name) end
    end
end
local at_once = math.max(4, math.ceil(limit / #keys))

local function more(source)
    if not source.key then return false end
    source.found = redis.call('ZREVRANGE', source.key, source.rank, source.rank + at_once - 1, 'WITHSCORES')
    source.rank, source.at = source.rank + at_once, 1
    source.created = tonumber(source.found[2])
    return source.created ~= nil
end

local sources = {}
if few and few[1] then sources[1] = {found = few, at = 1, created = tonumber(few[2])} end
for _, key in ipairs(keys) do
    local source = {key = key, rank = rank_of_first(key)}
    if more(source) then sources[#sources + 1] = source end
end

-- Returns the newest execution that is left, and when it was created; nil at the end.
local function take()
    local best
    for number = 1, #sources do
        local source = sources[number]
        if not best or source.created > sources[best].created or (source.created == sources[best].created
            and is_above(source.found[source.at], sources[best].found[sources[best].at])) then best = number end
    end
    if not best then return nil end
    local source = sources[best]
    local id, created = source.found[source.at], source.found[source.at + 1]
    source.at = source.at + 2
    source.created = tonumber(source.found[source.at + 1])
    if not source.created and not more(source) then table.remove(sources, best) end
    return id, created
end

local function is_wanted(id)
    if id:sub(1, #prefix_of_id) ~= prefix_of_id then return false end
    -- One that was damaged or deleted must not hide the others.
    if type_of(head_of(id)) ~= 'hash' then return false end
    local fields = redis.call('HMGET', head_of(id), 'workflow', 'status', 'owner', 'hold', 'waiting')
    local shown = fields[2]
    if shown == 'running' and not fields[3] and fields[4] == UNTIL_RESUMED then shown = PAUSED end
    if workflow and workflow ~= fields[1] or status and status ~= shown or waiting and waiting ~= fields[5] then
        return false
    end
    for number = FIRST_TAG, #ARGV, 2 do
        if redis.call('HGET', head_of(id), 'tag:' .. ARGV[number]) ~= ARGV[number + 1] then return false end
    end
    return true
end

local heads, last = {}, {}
for _ = 1, LOOKED_AT_MAX do
    if #heads == limit then break end
    local id, created = take()
    if not id or (first_at ~= '' and tonumber(created) < tonumber(first_at)) then return {heads, {}} end
    if is_wanted(id) then heads[#heads + 1] = {id, read_head(id)} end
    last = {created, id}
end
return {heads, last}
