-- Reads entries of children that have ended, behind those that are known.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, number of results and of errors that are known, most entries of each to read.
-- Returns {code, key}: "gone", or "wrongtype" with the key that is the matter; or {"ok", results, errors}.
-- Idempotent: it writes nothing.
-- include: ../resque/keys.lua
-- include: record.lua
local record = record_of(keys_of(ARGV[1]), ARGV[2])
if record.code then return {record.code, record.key} end
local function behind(part, known)
  return redis.call('LRANGE', record.at .. part, known, known + ARGV[5] - 1)
end
return {'ok', behind(':results', ARGV[3]), behind(':errors', ARGV[4])}
