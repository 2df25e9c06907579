-- Registers a process with its lease and its workers; if it was taken for dead before, that is no jobs' fault.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, number of slots, queues joined by ",", Unix seconds, the id under which it was
--   taken for dead ("" if it was not); then pairs field, value of the record.
-- Returns "ok"; or the name of a key that should be a set and is none, and then nothing was written.
-- Idempotent: ids are new at each boot, and the sequence of a standing record is kept.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: deaths.lua
-- include: ping.lua
local CHUNK = 500 -- unpack() ends at about 8,000
local keys = keys_of(ARGV[1])
local process, slots, queues = ARGV[2], tonumber(ARGV[4]), ARGV[5]
for _, key in ipairs({keys.processes, keys.workers}) do
  if not fits(key, 'set') then return key end
end
redis.call('PEXPIRE', keys.lease(process), ARGV[3]) -- first, since a full Redis refuses to begin with the others
redis.call('HSETNX', keys.process(process), 'seq', 0)
redis.call('HSET', keys.process(process), 'slots', slots, 'queues', queues, 'lease', ARGV[3], unpack(ARGV, 8))
redis.call('SADD', keys.processes, process)
redis.call('SET', keys.lease(process), 1, 'PX', ARGV[3])
for from = 1, slots, CHUNK do
  local members, began = {}, {}
  for slot = from, math.min(from + CHUNK - 1, slots) do
    local worker = process .. '-' .. string.format('%d', slot)
    members[#members + 1] = worker .. ':' .. queues
    began[#began + 1], began[#began + 2] = keys.started(worker, queues), ARGV[6]
  end
  redis.call('SADD', keys.workers, unpack(members))
  redis.call('MSET', unpack(began))
end
write_pings(keys, process, queues, ARGV[6], 1, slots)
if ARGV[7] ~= '' then take_back(keys, ARGV[7]) end
return 'ok'
