-- Counts one child of a fan-out, once, however often it ends: with its bit, its counter and its entry, or not at all.
-- include: record.lua
-- include: held.lua

-- What is kept of a child that has ended: its entry, if the fan-out is to keep such ones, and no note of its progress.
local function keep_entry(record, index, how, entry)
  record.has_notes = record.has_notes or redis.call('EXISTS', record.at .. ':notes')
  if record.has_notes == 1 then redis.call('HDEL', record.at .. ':notes', index) end
  if how == 'completed' then
    if record.keep == 'all' then redis.call('RPUSH', record.at .. ':results', entry) end
  elseif how == 'failed' and record.keep ~= 'none' then
    redis.call('RPUSH', record.at .. ':errors', entry)
  end
end

-- `how` is "completed", and `entry` joins the results; "failed", and it joins the errors; or "cancelled", which has none:
-- it counts as failed too, so that whoever waits for completed + failed is not kept waiting. `touched` gets the id, for
-- touch_all() and tell_all(). Returns "counted"; "again" if the child had ended before; or, with nothing written, "gone"
-- (no such record: none is made), "foreign" (an index that was never handed out) or "wrongtype" (some key of the record has
-- been damaged).
local function account(keys, id, index, how, entry, touched)
  local record = record_of(keys, id)
  if record.code then return record.code end
  index = tonumber(index)
  if not index or index < 0 or index >= record.hwm or index % 1 ~= 0 then return 'foreign' end
  touched[id] = true
  if redis.call('SETBIT', record.at .. ':done', index, 1) == 1 then return 'again' end
  record.has_news = true
  keep_entry(record, index, how, entry)
  let_next_out(keys, record)
  if how == 'cancelled' then
    redis.call('SETBIT', record.at .. ':cancelled', index, 1)
    redis.call('HINCRBY', record.at, 'cancelled', 1)
    redis.call('HINCRBY', record.at, 'failed', 1)
    return 'counted'
  end
  record.urgent = record.urgent or how == 'failed'
  redis.call('HINCRBY', record.at, how, 1)
  return 'counted'
end
