-- What the end of a job does elsewhere: in the statistics, in the failed list, among the retries, to a recurring action's
-- guard.

local function count_all(keys, cycle)
  for name, count in pairs({processed = cycle.completed, failed = cycle.failed, cancelled = cycle.cancelled}) do
    local counted = count == 0 or redis.pcall('INCRBY', keys.stat(name), count)
    -- another's key of another type must not stop the rest
    if type(counted) == 'table' then cycle.problems[#cycle.problems + 1] = keys.stat(name) end
  end
end

local function keep_failure(keys, cycle, failure)
  if type(redis.pcall('RPUSH', keys.failed, failure)) == 'number' then return end
  redis.call('RPUSH', keys.stranded_failures, failure)
  cycle.problems[#cycle.problems + 1] = keys.failed
end

-- The next attempt of a job, when it is due (Unix ms).
local function keep_retry(keys, cycle, element, due)
  if type(redis.pcall('ZADD', keys.retry, due, element)) == 'number' then return end
  redis.call('RPUSH', keys.stranded_jobs, element)
  cycle.problems[#cycle.problems + 1] = keys.retry
end

-- The next run of a recurring action may start when this one has ended for good.
local function guard_until(keys, action, job_id, delay)
  local guard = redis.pcall('GET', keys.guard(action))
  local id, ttl = string.match(type(guard) == 'string' and guard or '', '^(%S+) (%d+)$')
  if id ~= job_id then return end
  if delay then redis.call('PEXPIRE', keys.guard(action), ttl + delay) else redis.call('DEL', keys.guard(action)) end
end
