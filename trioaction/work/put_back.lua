-- Puts jobs in flight back at the head of their queues, in the order in which they were popped.

-- All jobs of a process as a list of {slot, token, queue, raw}, the last popped first. What is no job is passed over.
local function jobs_in_flight(inflight)
  local flat, jobs = redis.call('HGETALL', inflight), {}
  for at = 1, #flat, 2 do
    local token, queue, raw = inflight_parts(flat[at + 1])
    local slot = tonumber(flat[at])
    if slot and token then jobs[#jobs + 1] = {slot = slot, token = tonumber(token), queue = queue, raw = raw} end
  end
  table.sort(jobs, function(one, other)
    if one.token ~= other.token then return one.token > other.token end
    return one.slot > other.slot
  end)
  return jobs
end

-- Puts one of them back; jobs_in_flight's order brings the first popped to the very head. Where its queue is no
-- list any more it goes to a list of ours, and the queue's key into `problems`.
local function put_back(keys, process, queues, job, problems)
  redis.pcall('SADD', keys.queues, job.queue)
  local pushed = redis.pcall('LPUSH', keys.queue(job.queue), job.raw)
  if type(pushed) == 'table' then
    redis.call('LPUSH', keys.stranded_jobs, job.raw)
    problems[#problems + 1] = keys.queue(job.queue)
  end
  redis.call('HDEL', keys.inflight(process), job.slot)
  redis.call('DEL', keys.working_on(process .. '-' .. job.slot, queues))
  clear_started(keys, job.raw)
end
