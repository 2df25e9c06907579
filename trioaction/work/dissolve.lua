-- Ends the membership of a process: its jobs go back to the head of their queues, the fan-outs that it was still
-- registering are sealed, its workers, its leaderships and at last its record are removed.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, "rescue" (only if its lease has lapsed) or "leave" (in any case), most jobs to move.
-- Returns {code, number of jobs put back, problems}: "alive" (nothing done), "gone" (no record: done before), "more" (call
--   again) or "done"; problems are keys of queues that are no lists.
-- Idempotent: each job is moved by the call that takes it out of the record.
-- include: ../resque/keys.lua
-- include: ../fanout/identity.lua
-- include: ../fanout/started.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/seal_record.lua
-- include: inflight.lua
-- include: put_back.lua
-- include: strike_off.lua
local keys = keys_of(ARGV[1])
local process, most, problems = ARGV[2], tonumber(ARGV[4]), {}
local begun = redis.call('HEXISTS', keys.process(process), 'seq') == 0
if ARGV[3] == 'rescue' and not begun and redis.call('EXISTS', keys.lease(process)) == 1 then
  return {'alive', 0, problems}
end
redis.call('PEXPIRE', keys.lease(process), 1000) -- it may not exist: a full Redis then lets the rest pass
local slots, queues = unpack(redis.call('HMGET', keys.process(process), 'slots', 'queues'))
if not slots then return {'gone', 0, problems} end
-- Without its sequence a process is fenced from the first slice on; else it could renew its lease between two.
redis.call('HDEL', keys.process(process), 'seq')

local moved = 0
for _, job in ipairs(jobs_in_flight(keys.inflight(process))) do
  if moved == most then return {'more', moved, problems} end
  put_back(keys, process, queues, job, problems)
  moved = moved + 1
end
for _, id in ipairs(redis.call('SRANDMEMBER', keys.owned(process), most)) do
  seal_record(keys, id)
  redis.call('SREM', keys.owned(process), id)
end
if redis.call('EXISTS', keys.owned(process)) == 1 then return {'more', moved, problems} end
strike_off(keys, process, tonumber(slots), queues)
return {'done', moved, problems}
