-- Are the workers of a process listed? Writes their pings, if it is time to.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, Unix seconds for the pings ("" to write none), first and last slot, and the
--   sequence up to which the slots before these were seen: "" if there are none, "-" if more slots follow. With the last slots
--   come the places of jobs that are parked.
-- Returns {"gone"} without a record, else {"ok", sequence}, and behind it the places whose worker was struck off.
--   If none was, the record has it as `listed`: no job up to this sequence is in a place that was struck off before.
-- Idempotent: pings and what is noted are written anew.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ping.lua
-- include: listed.lua
local keys = keys_of(ARGV[1])
local process, seconds, upto = ARGV[2], ARGV[4], ARGV[7]
local first, last = tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, since a full Redis refuses to begin with the others
local sequence, queues = unpack(redis.call('HMGET', keys.process(process), 'seq', 'queues'))
if not sequence then return {'gone'} end
if not fits(keys.workers, 'set') then return {'ok', sequence} end
local places = slots_of(first, last)
if upto ~= '-' and fits(keys.inflight(process), 'hash') then
  for _, place in ipairs(redis.call('HKEYS', keys.inflight(process))) do
    if string.byte(place) == 112 then places[#places + 1] = place end -- "p"
  end
end
local _, missing = struck_off(keys, process, queues, places)
if seconds ~= '' then write_pings(keys, process, queues, seconds, first, last) end
if #missing == 0 and upto ~= '-' then
  redis.call('HSET', keys.process(process), 'listed', upto == '' and sequence or upto)
end
return {'ok', sequence, unpack(missing)}
