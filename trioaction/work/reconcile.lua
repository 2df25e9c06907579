-- Puts back what is in flight but does not really run: jobs whose cycle was answered to nobody.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, sequence, queues joined by ",", number of moves; then the moves (see move.lua),
--   and pairs place, token of what runs, with what has finished but was not acknowledged.
-- Returns {"gone"} without a record, {"stale"} for a sequence below the last one, else
--   {"ok", held, number put back, problems}: held are the places whose job is in flight as given; problems are keys of
--   queues that are no lists.
-- Idempotent: the same call again, as when its answer was lost, finds nothing to put back. A cycle of
--   a lower sequence that arrives later writes nothing.
-- include: ../resque/keys.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: inflight.lua
-- include: put_back.lua
local keys = keys_of(ARGV[1])
local process, sequence = ARGV[2], ARGV[4]
redis.call('PEXPIRE', keys.lease(process), ARGV[3])
local last, queues = unpack(redis.call('HMGET', keys.process(process), 'seq', 'queues'))
if not last then return {'gone'} end
if tonumber(sequence) < tonumber(last) then return {'stale'} end
queues = queues or ARGV[5] -- a process whose relabel was answered to nobody does not know what its workers are called
redis.call('HSET', keys.process(process), 'seq', sequence)

local moves, runs = tonumber(ARGV[6]), {}
move_all(keys, process, queues, ARGV, 7, moves)
for at = 7 + 3 * moves, #ARGV, 2 do runs[ARGV[at]] = tonumber(ARGV[at + 1]) end
local held, strays, problems, touched = {}, 0, {}, {}
for _, job in ipairs(jobs_in_flight(keys.inflight(process))) do
  if runs[job.place] == job.token then
    held[#held + 1] = job.place
  else
    put_back(keys, process, queues, job, problems, touched)
    strays = strays + 1
  end
end
touch_all(keys, touched)
tell_all(keys, touched)
return {'ok', held, strays, problems}
