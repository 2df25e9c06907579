-- Asks whether a job that was popped may start: its action allows one at a time, or is unique while it waits.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, queues joined by ",", place, token, the job of the lock that it needs ("" for none),
--   the lock's value, its seconds, Unix ms, the job of the lock that it had while it waited ("" for none), the guard of its
--   recurring action ("" for none) and its job id.
-- Returns "begun"; "held": the lock is another's, and the job waits for it, no longer in flight; "unknown": the place does not
--   hold this job (any more), and nothing was done; "wrongtype": the lock's key is no string, and nothing was done.
-- Idempotent but for the answer: a job that was sent to wait before is "unknown".
-- include: ../resque/keys.lua
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

-- Jobs that differ in bytes may have this lock in common; it is its owner's, or nobody's of ours.
local function free_while_waiting()
  local owner = keys.owner('lock:' .. waited)
  local held = redis.pcall('GET', owner)
  if held and (type(held) == 'table' or string.sub(held, 1, 40) ~= redis.sha1hex(raw)) then return end
  redis.call('DEL', keys.queue_lock(waited), owner)
end

local function wait()
  local touched = {}
  redis.call('RPUSH', keys.waiting(job), #queue .. ' ' .. queue .. raw)
  redis.pcall('ZADD', keys.blocked, 'NX', ARGV[10], job) -- another's key in its place: the leader tells of it
  redis.call('HDEL', keys.inflight(process), place)
  leave_place(keys, process, ARGV[4], place)
  local id, index = child_of(raw)
  if id then put_child_off(keys, id, index, ARGV[9] * 1000, touched) end
  if ARGV[12] ~= '' then guard_until(keys, ARGV[12], ARGV[13], ARGV[9] * 1000) end
  touch_all(keys, touched)
  tell_all(keys, touched)
end

local code = job == '' and 'taken' or take_lock(keys, process, place, token .. '.' .. place, job, ARGV[8], ARGV[9])
if code == 'held' then wait() end
if code ~= 'taken' then return code end
if waited ~= '' then free_while_waiting() end
return 'begun'
