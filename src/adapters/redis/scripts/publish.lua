-- Adds a delta to a stream, and announces it. The stream expires some time after its latest delta.
local stream, delta, deltas_max, expire_milliseconds = ARGV[4], ARGV[5], ARGV[6], ARGV[7]

redis.call('XADD', stream, 'MAXLEN', '~', deltas_max, '*', 'delta', delta)
redis.call('PEXPIRE', stream, expire_milliseconds)
redis.call('PUBLISH', stream, '')
return 1
