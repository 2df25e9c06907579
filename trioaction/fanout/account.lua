-- Counts one child of a fan-out, once, however often it ends: with its bit, its counter and its entry, or not at all.
-- include: record.lua

-- `entry` joins the results if `ok`, else the errors; `touched` gets the id, for touch_all(). Returns "counted";
-- "again" if the child had ended before; or, with nothing written, "gone" (no such record: none is made), "foreign"
-- (an index that was never handed out) or "wrongtype" (some key of the record has been damaged).
local function account(keys, id, index, ok, entry, touched)
  local record = record_of(keys, id)
  if record.code then return record.code end
  index = tonumber(index)
  if not index or index < 0 or index >= record.hwm or index % 1 ~= 0 then return 'foreign' end
  touched[id] = true
  if redis.call('SETBIT', record.at .. ':done', index, 1) == 1 then return 'again' end
  redis.call('HINCRBY', record.at, ok and 'completed' or 'failed', 1)
  redis.call('RPUSH', record.at .. (ok and ':results' or ':errors'), entry)
  return 'counted'
end
