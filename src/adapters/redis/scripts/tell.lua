-- Adds a piece of text to a stream that is forgotten a while after its last piece, and says so.
local stream, piece, pieces_max, expire_milliseconds = ARGV[4], ARGV[5], ARGV[6], ARGV[7]

redis.call('XADD', stream, 'MAXLEN', '~', pieces_max, '*', 'piece', piece)
redis.call('PEXPIRE', stream, expire_milliseconds)
redis.call('PUBLISH', stream, '')
return 1
