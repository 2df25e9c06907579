-- Reads how far a fan-out has come: its counters and one page of its entries, all of the same moment.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, first and last entry of the page (from 0; none if last is below first), the end of all pages that are
--   asked for (0 if that is known already).
-- Returns {code, total, completed, failed, cancelled, sealed, action, queue, results, errors, number of results, number
--   of errors, bits of the cancelled children ("" if the errors alone reach the end)}, or {code} alone: "ok", "gone" or "wrongtype".
-- Idempotent: it writes nothing.
-- include: ../resque/keys.lua
-- include: record.lua
local keys = keys_of(ARGV[1])
local record = record_of(keys, ARGV[2])
if record.code then return {record.code} end
local results, errors = record.at .. ':results', record.at .. ':errors'
local reply = redis.call('HMGET', record.at, 'total', 'completed', 'failed', 'cancelled', 'sealed', 'action', 'queue')
table.insert(reply, 1, 'ok')
reply[9] = redis.call('LRANGE', results, ARGV[3], ARGV[4])
reply[10] = redis.call('LRANGE', errors, ARGV[3], ARGV[4])
reply[11], reply[12] = redis.call('LLEN', results), redis.call('LLEN', errors)
reply[13] = tonumber(ARGV[5]) > reply[12] and redis.call('GET', record.at .. ':cancelled') or ''
return reply
