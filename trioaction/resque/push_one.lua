-- Pushes one job in the middle of a script, in which nothing may fail.

-- `command` is RPUSH or LPUSH. Where the queue's key is no list, the job is kept in a list of ours.
local function push_one(keys, queue, raw, command)
  redis.pcall('SADD', keys.queues, queue)
  if type(redis.pcall(command, keys.queue(queue), raw)) == 'table' then redis.call('RPUSH', keys.stranded_jobs, raw) end
end
