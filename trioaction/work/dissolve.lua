-- Ends the membership of a process: the fan-outs that it waited for are cancelled and those that it was still registering
-- sealed, its jobs go back to the head of their queues, its workers, its leaderships and at last its record are removed.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, "rescue" (only if its lease has lapsed), "dead" (it surely is) or "leave" (it goes itself: its
--   jobs did not kill it), most jobs to move, and fan-outs to end; then pairs place, token of jobs that do not go back, because
--   they are failed jobs already, or were.
-- Returns {code, number of jobs put back, problems, suspected}: "alive" (nothing done), "gone" (no record: done before),
--   "more" (call again) or "done"; problems are keys of queues that are no lists; suspected are the actions of jobs that run
--   alone from now on.
-- Idempotent: each job is moved by the call that takes it out of the record.
-- include: ../resque/keys.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/seal_record.lua
-- include: ../fanout/cancel_record.lua
-- include: inflight.lua
-- include: put_back.lua
-- include: suspects.lua
-- include: strike_off.lua
-- include: traces.lua

-- Lets a job go whose end is somebody else's matter.
local function forsake(keys, process, queues, job, touched)
  release_lock(keys, process, job.place, touched)
  redis.call('HDEL', keys.inflight(process), job.place)
  leave_place(keys, process, queues, job.place)
end

local MAX_SLOTS = 10000 -- as the settings have it: a record that somebody has written may have anything in it
local keys = keys_of(ARGV[1])
local process, most, problems, forsaken = ARGV[2], tonumber(ARGV[4]), {}, {}
for at = 5, #ARGV, 2 do forsaken[ARGV[at]] = tonumber(ARGV[at + 1]) end
local record = redis.call('HMGET', keys.process(process), 'slots', 'queues', 'suspect', 'seq')
local slots, queues, suspect, begun = record[1], record[2], record[3], record[1] and not record[4]
if ARGV[3] == 'rescue' and not begun and redis.call('EXISTS', keys.lease(process)) == 1 then
  return {'alive', 0, problems, {}}
end
redis.call('PEXPIRE', keys.lease(process), 1000) -- it may not exist: a full Redis then lets the rest pass
if not slots then slots, queues = traces(keys, process) end
if not slots then return {'gone', 0, problems, {}} end
-- Without its sequence a process is fenced from the first slice on; else it could renew its lease between two.
redis.call('HDEL', keys.process(process), 'seq')

local moved, seen, suspected, jobs = 0, 0, {}, {}
-- A key of the process that somebody has made something else has nothing in it that could be moved.
if fits(keys.inflight(process), 'hash') then jobs = jobs_in_flight(keys.inflight(process)) end
-- In the first slice, where all are here that died together. Of one without a record nobody knows how it ended.
if ARGV[3] ~= 'leave' and record[1] and not begun then suspected = note_deaths(keys, process, jobs, suspect) end
-- Before its jobs: who waits for children has them cancelled before it runs again.
local owned, sealed = keys.owned(process), {}
for _, id in ipairs(fits(owned, 'set') and redis.call('SRANDMEMBER', owned, most) or {}) do
  local record = record_of(keys, id)
  if record.inbox and record.inbox ~= '' then
    cancel_record(keys, id)
  else
    seal_record(keys, id, 1)
    sealed[id] = true
  end
  redis.call('SREM', owned, id)
end
tell_all(keys, sealed)
if fits(owned, 'set') and redis.call('EXISTS', owned) == 1 then return {'more', moved, problems, suspected} end
local touched = {}
for _, job in ipairs(jobs) do
  if seen == most then break end
  if forsaken[job.place] == job.token then
    forsake(keys, process, queues, job, touched)
  else
    put_back(keys, process, queues, job, problems, touched)
    moved = moved + 1
  end
  seen = seen + 1
end
touch_all(keys, touched)
tell_all(keys, touched)
if seen < #jobs then return {'more', moved, problems, suspected} end
strike_off(keys, process, math.min(tonumber(slots) or 0, MAX_SLOTS), queues or '')
return {'done', moved, problems, suspected}
