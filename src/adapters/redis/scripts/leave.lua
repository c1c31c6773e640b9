-- Says that a worker has stopped.
redis.call('ZREM', ALIVE, ARGV[4])
redis.call('HDEL', WORKERS, ARGV[4])
return 1
