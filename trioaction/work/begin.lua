-- Asks whether a job that was popped may start: its action allows one at a time, or is unique while it waits.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, queues joined by ",", place, token, the job of the lock that it needs ("" for none),
--   the lock's value, its seconds, Unix ms, the job of the lock that it had while it waited ("" for none), the guard of its
--   recurring action ("" for none) and its job id.
-- Returns "begun"; "held": the lock is another's, and the job waits for it, no longer in flight; "unknown": the place does not
--   hold this job (any more), and nothing was done; "wrongtype": a key of the lock is something else, and nothing was done.
-- Idempotent but for the answer: a job that was sent to wait before is "unknown".
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ../resque/action_of.lua
-- include: ../resque/args_of.lua
-- include: ../resque/queue_lock.lua
-- include: ../fanout/identity.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: ../fanout/put_off.lua
-- include: inflight.lua
-- include: job_locks.lua
-- include: move.lua
-- include: guard.lua
local keys = keys_of(ARGV[1])
local process, place, token, job, waited = ARGV[2], ARGV[5], ARGV[6], ARGV[7], ARGV[11]
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, so that a full Redis lets the rest pass
local entry = redis.call('HGET', keys.inflight(process), place)
if not has_token(entry, token) then return 'unknown' end
local _, queue, raw = inflight_parts(entry)

-- The lock has the arguments in their canonical form, as who enqueued the job wrote it, or as they are in the element, by which
-- the scheduler that moved it went.
local function free_while_waiting()
  free_queue_lock(keys, waited, raw)
  local action, args = action_of(raw), args_of(raw)
  if action and args then free_queue_lock(keys, action .. ':' .. queue .. ':' .. args, raw) end
end

-- A child that was cancelled since it was popped ends here: nobody else would count it before the lock is free.
local function wait()
  local touched, id, index = {}, child_of(raw)
  if not (id and ends_here(keys, id, index, touched)) then
    stand_in_line(keys, job, queue, raw)
    redis.pcall('ZADD', keys.blocked, 'NX', ARGV[10], job) -- another's key in its place: the leader tells of it
    if id then put_child_off(keys, id, index, ARGV[9] * 1000, touched) end
  end
  redis.call('HDEL', keys.inflight(process), place)
  -- while a relabel is unanswered the record knows better what the workers are called
  leave_place(keys, process, redis.call('HGET', keys.process(process), 'queues') or ARGV[4], place)
  if ARGV[12] ~= '' then guard_until(keys, ARGV[12], ARGV[13], ARGV[9] * 1000) end
  touch_all(keys, touched)
  tell_all(keys, touched)
end

if job ~= '' and not usable(keys, process, job) then return 'wrongtype' end
local code = job == '' and 'taken' or take_lock(keys, process, place, token .. '.' .. place, job, ARGV[8], ARGV[9])
if code == 'held' then wait() end
if code ~= 'taken' then return code end
if waited ~= '' then free_while_waiting() end
return 'begun'
