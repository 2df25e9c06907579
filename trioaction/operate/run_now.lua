-- Starts one run of a schedule, beside its due times: its job and its guard, if no run of it is going on.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, schedule (the action, with #name if it has several), queue, raw element, job id, TTL of the guard in ms.
-- Returns {code, key}: "started"; and without having written anything: "running", or "wrongtype" with the key that is the
--   matter.
-- Not idempotent: once the run has ended, the same call starts another.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ../work/start_run.lua
local keys, schedule, queue = keys_of(ARGV[1]), ARGV[2], ARGV[3]
local wrong = in_the_way(keys, schedule, queue)
if wrong then return {'wrongtype', wrong} end
if redis.call('EXISTS', keys.guard(schedule)) == 1 then return {'running', ''} end
start_run(keys, schedule, queue, ARGV[4], ARGV[5], ARGV[6])
return {'started', ''}
