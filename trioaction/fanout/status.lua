-- Reads how far a fan-out has come: its counters and one page of its entries, all of the same moment.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, first and last entry of the page (from 0; none if last is below first), the end of all pages that are
--   asked for (0 if that is known already), an inbox that is to be told of the next change ("" for none).
-- Returns {code} alone for "gone" or "wrongtype", else {"ok", total, completed, failed, cancelled, running, sealed,
--   is_cancelled, cut, action, queue, notes (flat pairs of index and text), results, errors, number of results, number of
--   errors, bits of the cancelled children ("" if the errors alone reach the end)}.
-- Idempotent: it writes nothing but who is to be told.
-- include: ../resque/keys.lua
-- include: record.lua
-- include: watch.lua
local keys = keys_of(ARGV[1])
local record = record_of(keys, ARGV[2])
if record.code then return {record.code} end
if ARGV[6] ~= '' then
  redis.call('PEXPIRE', keys.news(''), 1) -- no key of ours: a full Redis, which refuses to begin with SADD, lets the rest pass
  watch(record, ARGV[6])
end

-- A child that has started and not ended. Once it is cancelled, those that have not started have ended.
local function running()
  local ended = record.completed + record.failed
  local started = record.is_cancelled and record.registered or redis.call('BITCOUNT', record.at .. ':started')
  return math.max(0, started - ended)
end

local results, errors = record.at .. ':results', record.at .. ':errors'
local total, sealed, cut, action, queue = unpack(redis.call('HMGET', record.at, 'total', 'sealed', 'cut', 'action', 'queue'))
local is_asked = tonumber(ARGV[5]) > redis.call('LLEN', errors)
return {
  'ok', total, record.completed, record.failed, record.cancelled, running(), sealed, record.is_cancelled and 1 or 0, cut or 0,
  action, queue, redis.call('HGETALL', record.at .. ':notes'), redis.call('LRANGE', results, ARGV[3], ARGV[4]),
  redis.call('LRANGE', errors, ARGV[3], ARGV[4]), redis.call('LLEN', results), redis.call('LLEN', errors),
  is_asked and redis.call('GET', record.at .. ':cancelled') or '',
}
