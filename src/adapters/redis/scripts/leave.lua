-- Removes a worker that has stopped from the list of workers.
redis.call('ZREM', ALIVE, ARGV[4])
redis.call('HDEL', WORKERS, ARGV[4])
return 1
