-- What a script knows of a fan-out's record: looked at once in its run, in which nobody else changes anything.
-- include: ../resque/types.lua
local FAN_OUT_PARTS = {
  children = 'string', started = 'string', done = 'string', cancelled = 'string', batches = 'string', results = 'list',
  errors = 'list', held = 'list', notes = 'hash', watchers = 'set',
}
local DIGITS = {
  'hwm', 'ttl', 'result_ttl', 'registered', 'completed', 'failed', 'cancelled', 'out', 'max_running', 'max_queued',
}
local LIMITS = 8 -- the first of those that a record has not which an older version has made

local function read_record(at)
  if not fits(at, 'hash') then return {code = 'wrongtype', key = at} end
  if redis.call('EXISTS', at) == 0 then return {code = 'gone', key = at} end
  for part, wanted in pairs(FAN_OUT_PARTS) do
    local key = at .. ':' .. part
    if not fits(key, wanted) then return {code = 'wrongtype', key = key} end
  end
  local record, values = {at = at}, redis.call('HMGET', at, 'is_cancelled', 'inbox', 'keep', 'pace', unpack(DIGITS))
  for number, field in ipairs(DIGITS) do
    local digits = values[4 + number] or (number < LIMITS and '' or '0')
    -- as many as can be added to without an error, in the middle of a script
    if #digits > 15 or not string.find(digits, '^%d+$') then return {code = 'wrongtype', key = at} end
    record[field] = tonumber(digits)
  end
  record.is_cancelled, record.inbox = values[1] == '1', values[2] or ''
  record.keep, record.pace = values[3] or 'all', values[4] or ''
  return record
end

-- The record with `at` (its key), its numbers as they were when it was read (`ttl` is in force, `result_ttl` was asked for,
-- both in ms), `is_cancelled`, what it keeps, and the inboxes of processes: the one that waits for its children ("" if it is
-- detached), the one that waits for room to register more. Or a record with a `code` and the `key` that is the matter: "gone",
-- or "wrongtype" if any of its keys, or a number in it, is not what it should be. A script checks that before it writes.
local function record_of(keys, id)
  local record = keys.seen[id]
  if not record then
    record = read_record(keys.fan_out(id))
    keys.seen[id] = record
  end
  return record
end

-- Is it sealed here at what was announced, so that nothing is cut short?
local function is_whole(record)
  local announced, total = unpack(redis.call('HMGET', record.at, 'announced', 'total'))
  return announced == '1' and tonumber(total) == record.registered
end
