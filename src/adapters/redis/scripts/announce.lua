-- Lists a worker as alive until a time, and removes workers whose time has passed.
local identity, card, alive_until = ARGV[4], ARGV[5], ARGV[6]

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', ALIVE, '-inf', now)) do
    redis.call('ZREM', ALIVE, dead)
    redis.call('HDEL', WORKERS, dead)
end
redis.call('HSET', WORKERS, identity, card)
redis.call('ZADD', ALIVE, alive_until, identity)
return 1
