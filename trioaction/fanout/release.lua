-- Ends the ownership of a fan-out whose children have all ended, or deletes it altogether.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, owner (a process id), 1 to delete the record or 0 to leave it its TTL.
-- Returns "ok". Idempotent.
-- include: ../resque/keys.lua
-- include: record.lua
local keys, id = keys_of(ARGV[1]), ARGV[2]
local at = keys.fan_out(id)
redis.call('PEXPIRE', keys.news(''), 1) -- no key of ours: an error while Redis takes no writes, but not when it is full
redis.pcall('SREM', keys.owned(ARGV[3]), id)
if ARGV[4] == '1' then
  redis.call('DEL', at)
  for part in pairs(FAN_OUT_PARTS) do redis.call('DEL', at .. ':' .. part) end
end
return 'ok'
