-- One exchange of a process with Redis: outcomes in, jobs out, in one atomic step.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, sequence, run_at, the queue that had the last turn of "*", all queues of the
--   process joined by ",", number of moves, of outcomes, of free slots and of limits; then the limits (see rates.lua), the
--   moves (see move.lua), the outcomes (see finish.lua), the free slots (highest first) and the queues to pop from.
-- Returns {"gone"} if the process has no record (any more), {"stale"} for a sequence below the last one, else
--   {"ok", codes, popped, last queue, problems, suspect, cut, wait}: codes has one text per outcome ("" if all is well), popped
--   is flat triples slot, queue, raw; problems are keys of the wrong type; suspect is -1, or how often the last job popped
--   died alone; cut is 1 if so many jobs were dropped that the queues were not looked through; wait is -1, or the ms until
--   the first limit has room again that has kept jobs in their queues.
-- Idempotent: the same sequence again changes nothing and answers what the free slots hold from the first time.
-- include: ../resque/keys.lua
-- include: ../fanout/identity.lua
-- include: ../fanout/started.lua
-- include: ../fanout/account.lua
-- include: ../fanout/void.lua
-- include: ../fanout/put_off.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: inflight.lua
-- include: working.lua
-- include: move.lua
-- include: queues.lua
-- include: suspects.lua
-- include: finish.lua
-- include: drop.lua
-- include: paused.lua
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

local moves, outcomes, frees, limits = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local first = 12 + 4 * limits
local starts, first_free = outcomes_from(ARGV, first + 3 * moves, outcomes)
local free, queues = {}, {}
for at = first_free, first_free + frees - 1 do free[#free + 1] = ARGV[at] end
for at = first_free + frees, #ARGV do queues[#queues + 1] = ARGV[at] end

local cycle = {
  process = process, sequence = sequence, run_at = ARGV[5], last_queue = ARGV[6], queues = ARGV[7],
  inflight = keys.inflight(process), free = free, ended = {}, filled = {}, touched = {}, popped = {}, problems = {},
  took = {}, emptied = {},
  bytes = 0, completed = 0, failed = 0, cancelled = 0, dropped = 0, limits = limits_from(ARGV, 12, limits),
}

if sequence == last then
  return {'ok', no_codes(outcomes), popped_before(cycle), cycle.last_queue, {}, suspect_of(suspect, sequence) or -1, 1, -1}
end

redis.call('HSET', keys.process(process), 'seq', sequence)
-- One question, as a rule: most of the time there is none of these.
if redis.call('EXISTS', keys.deaths, keys.locks_of(process), keys.paused, keys.pause_all) > 0 then
  cycle.wary = redis.call('EXISTS', keys.deaths) == 1
  cycle.has_locks = redis.call('EXISTS', keys.locks_of(process)) == 1
  cycle.paused = paused_queues(keys, cycle.problems)
end
move_all(keys, process, cycle.queues, ARGV, first, moves)
local codes = finish_all(keys, cycle, ARGV, starts)
if #free > 0 then
  pop_all(keys, cycle, queues)
  tell_emptied(keys, cycle)
end
keep_starts(cycle)
if cycle.suspect then hold_suspect(keys, process, sequence, cycle.suspect) end
free_places(keys, cycle)
count_all(keys, cycle)
touch_all(keys, cycle.touched)
tell_all(keys, cycle.touched)
local cut = cycle.dropped >= MAX_DROPPED and 1 or 0
return {'ok', codes, cycle.popped, cycle.last_queue, cycle.problems, cycle.suspect or -1, cut, cycle.wait or -1}
