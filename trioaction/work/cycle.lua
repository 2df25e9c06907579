-- One exchange of a process with Redis: outcomes in, jobs out, in one atomic step.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, sequence, run_at, the queue that had the last turn of "*", number of outcomes, of free
--   slots and of queues; then the outcomes (see finish.lua), the free slots (highest first) and
--   the queues.
-- Returns {"gone"} if the process has no record (any more), {"stale"} for a sequence below the last one, else
--   {"ok", codes, popped, last queue, problems, suspect}: codes has one text per outcome ("" if all is well), popped is flat
--   triples slot, queue, raw; problems are keys of the wrong type; suspect is -1, or how often the last job popped died alone.
-- Idempotent: the same sequence again changes nothing and answers what the free slots hold from the first time.
-- include: ../resque/keys.lua
-- include: ../fanout/identity.lua
-- include: ../fanout/started.lua
-- include: ../fanout/account.lua
-- include: ../fanout/put_off.lua
-- include: ../fanout/touch.lua
-- include: inflight.lua
-- include: working.lua
-- include: queues.lua
-- include: suspects.lua
-- include: finish.lua
-- include: pop.lua
-- include: turns.lua
-- include: again.lua
local keys = keys_of(ARGV[1])
local process, sequence = ARGV[2], ARGV[4]
-- The first write, and one that a full Redis lets pass: so do then all that follow.
redis.call('PEXPIRE', keys.lease(process), ARGV[3])
local last, suspect = unpack(redis.call('HMGET', keys.process(process), 'seq', 'suspect'))
if not last then return {'gone'} end
if tonumber(sequence) < tonumber(last) then return {'stale'} end
redis.call('HLEN', keys.inflight(process)) -- an error if it is no hash, before a job is taken that could not be kept

local outcomes, frees, first = tonumber(ARGV[7]), tonumber(ARGV[8]), 10
local starts, first_free = outcomes_from(ARGV, first, outcomes)
local free, queues = {}, {}
for at = first_free, first_free + frees - 1 do free[#free + 1] = ARGV[at] end
for at = first_free + frees, #ARGV do queues[#queues + 1] = ARGV[at] end

local cycle = {
  process = process, sequence = sequence, run_at = ARGV[5], last_queue = ARGV[6], queues = table.concat(queues, ','),
  inflight = keys.inflight(process), free = free, ended = {}, filled = {}, touched = {}, popped = {}, problems = {},
  bytes = 0, processed = 0, failed = 0,
}

if sequence == last then
  return {'ok', no_codes(outcomes), popped_before(cycle), cycle.last_queue, {}, suspect_of(suspect, sequence) or -1}
end

redis.call('HSET', keys.process(process), 'seq', sequence)
cycle.wary = redis.call('EXISTS', keys.deaths) == 1
local codes = finish_all(keys, cycle, ARGV, starts)
if #free > 0 then pop_all(keys, cycle, queues) end
if cycle.suspect then hold_suspect(keys, process, sequence, cycle.suspect) end
free_slots(keys, cycle)
touch_all(keys, cycle.touched)
return {'ok', codes, cycle.popped, cycle.last_queue, cycle.problems, cycle.suspect or -1}
