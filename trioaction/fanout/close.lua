-- Seals a fan-out when its registrar has no more children for it, or gives up.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, names of its actions and of its queues as JSON to show (each "" to leave what stands), 1 if it gives
--   up before it was through, else 0.
-- Returns {code, registered, key}: "ok", "again" if it was sealed before, "gone" or "wrongtype" with the key that
--   is the matter; registered is how many children it has.
-- Idempotent: the second call changes nothing but the TTL. Works on a full Redis: it begins with PEXPIRE.
-- include: ../resque/keys.lua
-- include: record.lua
-- include: seal_record.lua
-- include: news.lua
local keys, id = keys_of(ARGV[1]), ARGV[2]
local code = seal_record(keys, id, ARGV[5])
local record = record_of(keys, id)
if record.code then return {code, 0, record.key} end
if code == 'ok' and ARGV[3] ~= '' then redis.call('HSET', record.at, 'action', ARGV[3], 'queue', ARGV[4]) end
tell_all(keys, {[id] = true})
return {code, tonumber(redis.call('HGET', record.at, 'registered')), ''}
