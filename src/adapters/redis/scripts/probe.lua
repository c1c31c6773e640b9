-- Fails unless this user may do what the scripts do: one command of each sort, and nothing is changed.
redis.call('GET', TOKEN)
redis.call('PUBLISH', prefix .. 'probe', '')
return 1
