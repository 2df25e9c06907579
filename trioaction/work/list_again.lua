-- Takes back what node-resque's leader does to a worker that it holds for dead: the worker is listed again, and the entries
-- that it made of its jobs leave the failed list and the count of failures.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, "alive" (the process itself, which must have a record) or "lost" (its rescue), Unix
--   seconds, number of places; the places, and then the entries as they were read.
-- Returns {"gone"}, or {"ok", entries taken back}.
-- Idempotent: an entry that is gone is not taken back again.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ping.lua
local keys = keys_of(ARGV[1])
local process, alive, seconds, places = ARGV[2], ARGV[4] == 'alive', ARGV[5], tonumber(ARGV[6])
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, since a full Redis refuses to begin with the others
local sequence, queues = unpack(redis.call('HMGET', keys.process(process), 'seq', 'queues'))
if not queues or alive and not sequence then return {'gone'} end
if not fits(keys.workers, 'set') then return {'ok', 0} end

local taken = 0
for at = 7 + places, #ARGV do
  local removed = redis.pcall('LREM', keys.failed, -1, ARGV[at]) -- they are among the newest
  if type(removed) == 'number' then taken = taken + removed end
end
local failures = redis.pcall('GET', keys.stat('failed'))
failures = type(failures) == 'string' and tonumber(failures) or 0 -- somebody may have put it back to 0
if taken > 0 and failures > 0 then redis.pcall('DECRBY', keys.stat('failed'), math.min(taken, failures)) end

local began = redis.pcall('GET', keys.started(process .. '-1', queues)) -- of a worker that was left alone, perhaps
if type(began) ~= 'string' then began = seconds end
for at = 7, 6 + places do
  local place = ARGV[at]
  local is_slot = string.match(place, '^%d+$')
  if is_slot or redis.call('HEXISTS', keys.inflight(process), place) == 1 then -- a parked job may have left
    redis.call('SADD', keys.workers, process .. '-' .. place .. ':' .. queues)
    redis.call('SET', keys.started(process .. '-' .. place, queues), began)
    if is_slot and alive then write_pings(keys, process, queues, seconds, tonumber(place), tonumber(place)) end
  end
end
return {'ok', taken}
