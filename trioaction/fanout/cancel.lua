-- Cancels a fan-out: what waits never runs, what runs is told to end.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id.
-- Returns {code, key}: "ok", "again" if it was cancelled before, "finished" if all its children have ended, "gone", or
--   "wrongtype" with the key that is the matter.
-- Idempotent: what was cancelled stays so. Works on a full Redis: it begins with PEXPIRE.
-- include: ../resque/keys.lua
-- include: cancel_record.lua
local keys, id = keys_of(ARGV[1]), ARGV[2]
local code = cancel_record(keys, id)
return {code, record_of(keys, id).key or ''}
