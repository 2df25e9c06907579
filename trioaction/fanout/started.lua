-- The bits that tell which children of a fan-out have been popped and not put back. A job that is no child, or one of a
-- record that is gone, damaged, or never handed out such an index, changes nothing.
-- include: record.lua
local function set_started(keys, id, index, bit, touched)
  local record = record_of(keys, id)
  if record.code or index >= record.hwm then return false end
  local bits = record.at .. ':started'
  -- a key that only a clear bit made would have no TTL
  if redis.call('GETBIT', bits, index) ~= bit then redis.call('SETBIT', bits, index, bit) end
  record.has_moved = true
  touched[id] = true
  return true
end

-- A child was popped; `touched` gets the id of its fan-out, for touch_all() and tell_all().
local function mark_started(keys, id, index, touched)
  set_started(keys, id, index, 1, touched)
end

-- A child was put back into its queue, and begins anew.
local function clear_started(keys, id, index, touched)
  if set_started(keys, id, index, 0, touched) then redis.call('HDEL', record_of(keys, id).at .. ':notes', index) end
end
