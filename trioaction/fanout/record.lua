-- What a script knows of a fan-out's record: looked at once in its run, in which nobody else changes anything.
-- include: ../resque/types.lua
local FAN_OUT_PARTS = {
  children = 'string', started = 'string', done = 'string', cancelled = 'string', batches = 'string', results = 'list',
  errors = 'list',
}
local fan_out_records = {}

local function read_record(at)
  if not fits(at, 'hash') then return {code = 'wrongtype', key = at} end
  if redis.call('EXISTS', at) == 0 then return {code = 'gone', key = at} end
  for part, wanted in pairs(FAN_OUT_PARTS) do
    local key = at .. ':' .. part
    if not fits(key, wanted) then return {code = 'wrongtype', key = key} end
  end
  local fields = redis.call('HMGET', at, 'hwm', 'ttl', 'result_ttl', 'registered', 'completed', 'failed', 'cancelled',
    'is_cancelled', 'inbox')
  for field = 1, 7 do
    local digits = fields[field] or ''
    -- as many as can be added to without an error, in the middle of a script
    if #digits > 15 or not string.find(digits, '^%d+$') then return {code = 'wrongtype', key = at} end
  end
  return {
    at = at, hwm = tonumber(fields[1]), ttl = tonumber(fields[2]), result_ttl = tonumber(fields[3]),
    is_cancelled = fields[8] == '1', inbox = fields[9] or '',
  }
end

-- The record with `at` (its key), `hwm`, `ttl` and `result_ttl` (in ms: what is in force, and what was asked for),
-- `is_cancelled`, and the `inbox` of the process that waits for it ("" if it is detached); or one with a `code` and the
-- `key` that is the matter: "gone", or "wrongtype" if any of its keys, or a number in it, is not what it should be. A script
-- checks that before it writes.
local function record_of(keys, id)
  local record = fan_out_records[id]
  if not record then
    record = read_record(keys.fan_out(id))
    fan_out_records[id] = record
  end
  return record
end
