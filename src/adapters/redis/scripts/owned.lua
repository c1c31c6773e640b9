-- Returns, for each of some workers, the ids of the executions of this shard that it owns.
local owned = {}
for number = 4, #ARGV do owned[number - 3] = redis.call('SMEMBERS', owned_by(ARGV[number])) end
return owned
