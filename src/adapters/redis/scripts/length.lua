-- Returns how many records an execution has, or -1 if it has ended.
local status = redis.call('HGET', head_of(ARGV[4]), 'status')
if status and status ~= 'running' then return ENDED end
return redis.call('LLEN', journal_of(ARGV[4]))
