-- Starts one run of a recurring action that is due: its job, its guard and its record in one step, so that there is
-- exactly one, whoever dies.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, schedule (the action, with #name if it has several), its record as it was read
--   ("" for none), its record after a run, after a run that was skipped, queue, raw element, job id, TTL of the guard in ms.
-- Returns {code, key}: "fired"; "overlap" (the last run has not ended: this one is skipped); and without having written
--   anything: "lost" (this process does not lead), "changed" (the record is not as it was read), or "wrongtype" with the
--   key that is the matter.
-- Idempotent: the same call again finds the record changed.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: start_run.lua
local keys, process, schedule, queue = keys_of(ARGV[1]), ARGV[2], ARGV[4], ARGV[8]
if redis.pcall('GET', keys.leader) ~= process then return {'lost', ''} end
if (redis.call('HGET', keys.recurring, schedule) or '') ~= ARGV[5] then return {'changed', ''} end
local wrong = in_the_way(keys, schedule, queue)
if wrong then return {'wrongtype', wrong} end

redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, so that a full Redis lets the rest pass
if redis.call('EXISTS', keys.guard(schedule)) == 1 then
  redis.call('HSET', keys.recurring, schedule, ARGV[7])
  return {'overlap', ''}
end
start_run(keys, schedule, queue, ARGV[9], ARGV[10], ARGV[11])
redis.call('HSET', keys.recurring, schedule, ARGV[6])
return {'fired', ''}
