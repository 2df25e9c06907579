-- A process takes jobs from other queues than before: its workers are called after them, with all that they have on record.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, sequence, the queues joined by ",".
-- Returns {"gone"} if the process has no record (any more), {"stale"} for a sequence below the last one, else {"ok"}.
-- Idempotent.
-- include: ../resque/keys.lua
local MAX_SLOTS = 10000 -- as the settings have it: a record that somebody has written may have anything in it
local keys = keys_of(ARGV[1])
local process, sequence, new = ARGV[2], ARGV[4], ARGV[5]
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, so that a full Redis lets the rest pass
local last, slots, old = unpack(redis.call('HMGET', keys.process(process), 'seq', 'slots', 'queues'))
if not last then return {'gone'} end
if tonumber(sequence) < tonumber(last) then return {'stale'} end
redis.call('HSET', keys.process(process), 'seq', sequence, 'queues', new)
if old == new then return {'ok'} end

local function rename(from, to)
  if redis.call('EXISTS', from) == 1 then redis.call('RENAME', from, to) end
end

local function relabel(worker)
  redis.pcall('SREM', keys.workers, worker .. ':' .. old)
  redis.pcall('SADD', keys.workers, worker .. ':' .. new)
  rename(keys.working_on(worker, old), keys.working_on(worker, new))
  rename(keys.started(worker, old), keys.started(worker, new))
end

for slot = 1, math.min(tonumber(slots) or 0, MAX_SLOTS) do relabel(process .. '-' .. slot) end
for _, place in ipairs(redis.call('HKEYS', keys.inflight(process))) do
  if string.byte(place) == 112 then relabel(process .. '-' .. place) end -- "p": a job that is parked
end
return {'ok'}
