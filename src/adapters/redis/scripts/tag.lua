-- Changes the tags of an execution. Returns 'tagged', 'unknown', or how many tags it would have: more than `tags_max`,
-- and more than before.
local id, tags_max, count = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local FIRST_TAG = 7

local created = redis.call('HGET', head_of(id), 'created')
if not created then return 'unknown' end
local before, fields = 0, redis.call('HGETALL', head_of(id))
for number = 1, #fields, 2 do
    if fields[number]:sub(1, 4) == 'tag:' then before = before + 1 end
end
local changes, after = tag_changes(id, FIRST_TAG, count), before
for _, change in ipairs(changes) do after = after + (change.value and 1 or 0) - (change.old and 1 or 0) end
if after > math.max(tags_max, before) then return after end

change_tags(id, created, changes)
return 'tagged'
