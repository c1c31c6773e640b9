-- Returns the cards of the workers that are alive.
local cards = {}
for number, identity in ipairs(redis.call('ZRANGEBYSCORE', ALIVE, '(' .. now, '+inf')) do
    cards[number] = redis.call('HGET', WORKERS, identity)
end
return cards
