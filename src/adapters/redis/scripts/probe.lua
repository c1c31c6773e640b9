-- Changes nothing; fails unless this user may run scripts, read keys and publish.
redis.call('GET', TOKEN)
redis.call('PUBLISH', prefix .. 'probe', '')
return 1
