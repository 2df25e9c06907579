-- Reads how far an attached fan-out has come, for the process that waits for it, and asks to be told of the next end.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, owner (a process id), 1 to be told of the next end, whichever it is, or 0.
-- Returns {code, key}: "lost" if it is not this owner's (any more), "wrongtype" with the key that is the matter; or {"ok",
--   registered, completed, failed, cancelled, sealed, is_cancelled}, where failed has the cancelled ones in it.
-- Idempotent.
-- include: ../resque/keys.lua
-- include: record.lua
-- include: watch.lua
local keys, id, owned = keys_of(ARGV[1]), ARGV[2], keys_of(ARGV[1]).owned(ARGV[3])
local record = record_of(keys, id)
if record.code == 'wrongtype' then return {'wrongtype', record.key} end
if not fits(owned, 'set') then return {'wrongtype', owned} end
if record.code or redis.call('SISMEMBER', owned, id) == 0 then return {'lost', record.at or record.key} end
redis.call('PEXPIRE', keys.news(''), 1) -- no key of ours: a full Redis, which refuses to begin with SADD, lets the rest pass
if ARGV[4] == '1' then watch(record, record.inbox) end
local counts = redis.call('HMGET', record.at, 'registered', 'completed', 'failed', 'cancelled', 'sealed')
return {'ok', counts[1], counts[2], counts[3], counts[4], counts[5], record.is_cancelled and 1 or 0}
