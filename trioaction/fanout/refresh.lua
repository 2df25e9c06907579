-- Keeps fan-outs alive that somebody still works on or registers: renews those older than a third of their TTL.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, then at most 100 ids.
-- Returns how many were renewed; a missing id is passed over.
-- Idempotent.
-- include: ../resque/keys.lua
-- include: record.lua
-- include: touch.lua
local keys, aged, renewed = keys_of(ARGV[1]), {}, 0
for at = 2, #ARGV do
  local record = record_of(keys, ARGV[at])
  if not record.code and redis.call('PTTL', record.at) * 3 < record.ttl * 2 then
    aged[ARGV[at]] = true
    renewed = renewed + 1
  end
end
touch_all(keys, aged)
return renewed
