-- Moves jobs whose next attempt is due into their queues, the longest due first, at most so many, or a little over 1 MiB.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, Unix ms, most jobs, failed_at for those that name no queue.
-- Returns {"lost"} if this process does not lead (nothing is written), else {"ok", moved, failed, next, problems, 0}: next is
--   when (Unix ms) the next one is due, "" if there is none; if it is not in the future, call again. Problems are texts.
-- Idempotent in that each job is moved by the one call that finds it waiting; its bytes stay as they are.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: bury.lua
-- include: delayed_job.lua
local MAX_BYTES = 1048576
local keys, process, most = keys_of(ARGV[1]), ARGV[2], tonumber(ARGV[5])
if redis.pcall('GET', keys.leader) ~= process then return {'lost'} end
if not fits(keys.retry, 'zset') then
  return {'ok', 0, 0, '', {keys.retry .. ' is no sorted set: jobs are not tried again'}, 0}
end

local pass = {process = process, failed_at = ARGV[6], queues = {}, problems = {}, bytes = 0, steps = 0, moved = 0, failed = 0}

-- The element stays among the retries, for a minute more, if its queue is no list.
local function move_retry(raw)
  pass.bytes = pass.bytes + #raw
  local queue = queue_of(raw)
  if not queue then
    bury(keys, raw, process, pass.failed_at, pass.problems)
    pass.failed = pass.failed + 1
  elseif takes_jobs(keys, pass, queue) then
    redis.call('RPUSH', keys.queue(queue), raw)
    pass.moved = pass.moved + 1
  else
    redis.call('ZADD', keys.retry, ARGV[4] + POSTPONED * 1000, raw)
    return
  end
  redis.call('ZREM', keys.retry, raw)
end

-- One at a time, or 500 large ones would fill Redis's memory.
local function next_due()
  return redis.call('ZRANGEBYSCORE', keys.retry, '-inf', ARGV[4], 'LIMIT', 0, 1)[1]
end

local raw = next_due()
-- The first write, and one that a full Redis lets pass: so do then all that follow.
if raw then redis.call('PEXPIRE', keys.lease(process), ARGV[3]) end
while raw and pass.steps < most and pass.bytes < MAX_BYTES do
  pass.steps = pass.steps + 1
  move_retry(raw)
  raw = next_due()
end
local first = redis.call('ZRANGE', keys.retry, 0, 0, 'WITHSCORES')
return {'ok', pass.moved, pass.failed, first[2] or '', pass.problems, 0}
