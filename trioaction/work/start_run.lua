-- One run of a recurring action: its guard and its job.

-- The key of a wrong type that is in the way of a run, if there is one.
local function in_the_way(keys, schedule, queue)
  for key, wanted in pairs({[keys.queue(queue)] = 'list', [keys.queues] = 'set', [keys.guard(schedule)] = 'string'}) do
    if not fits(key, wanted) then return key end
  end
end

local function start_run(keys, schedule, queue, element, job_id, ttl)
  redis.call('SET', keys.guard(schedule), job_id .. ' ' .. ttl, 'PX', ttl)
  redis.call('SADD', keys.queues, queue)
  redis.call('RPUSH', keys.queue(queue), element)
end
