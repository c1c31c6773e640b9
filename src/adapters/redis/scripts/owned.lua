-- Returns the ids of the executions of this shard that each of some workers owns.
local owned = {}
for number = 4, #ARGV do owned[number - 3] = redis.call('SMEMBERS', owned_by(ARGV[number])) end
return owned
