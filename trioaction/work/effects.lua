-- What the end of a job does elsewhere: in the statistics, in the failed list, among the retries.

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
