-- Puts jobs in flight back at the head of their queues, in the order in which they were popped; children that nobody wants
-- any more have ended with that.
-- include: ../fanout/started.lua
-- include: ends_here.lua
-- include: move.lua

-- All jobs of a process as a list of {place, parked, token, queue, raw}, the last popped first. What is no job is passed over.
local function jobs_in_flight(inflight)
  local flat, jobs = redis.call('HGETALL', inflight), {}
  for at = 1, #flat, 2 do
    local token, queue, raw = inflight_parts(flat[at + 1])
    local parked, number = string.match(flat[at], '^(p?)(%d+)$')
    if number and token then
      jobs[#jobs + 1] = {
        place = flat[at], number = tonumber(number), parked = parked == 'p', token = tonumber(token), queue = queue, raw = raw,
      }
    end
  end
  table.sort(jobs, function(one, other)
    if one.token ~= other.token then return one.token > other.token end
    if one.parked ~= other.parked then return other.parked end
    return one.number > other.number
  end)
  return jobs
end

-- Puts one of them back; jobs_in_flight's order brings the first popped to the very head. Where its queue is no
-- list any more it goes to a list of ours, and the queue's key into `problems`. `touched` is for touch_all() and tell_all().
local function put_back(keys, process, queues, job, problems, touched)
  release_lock(keys, process, job.place, touched)
  local id, index = child_of(job.raw)
  if not id or not ends_here(keys, id, index, touched) then
    if id then clear_started(keys, id, index, touched) end
    redis.pcall('SADD', keys.queues, job.queue)
    local pushed = redis.pcall('LPUSH', keys.queue(job.queue), job.raw)
    if type(pushed) == 'table' then
      redis.call('LPUSH', keys.stranded_jobs, job.raw)
      problems[#problems + 1] = keys.queue(job.queue)
    end
  end
  redis.call('HDEL', keys.inflight(process), job.place)
  leave_place(keys, process, queues, job.place)
end
