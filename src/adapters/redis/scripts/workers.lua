-- Returns what the workers that are alive told of themselves.
local cards = {}
for number, identity in ipairs(redis.call('ZRANGEBYSCORE', ALIVE, '(' .. now, '+inf')) do
    cards[number] = redis.call('HGET', WORKERS, identity)
end
return cards
