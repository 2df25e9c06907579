-- The bits that tell which children of a fan-out have been popped and not put back. A job that is no child, or one of a
-- record that is gone, damaged, or never handed out such an index, changes nothing.
-- include: identity.lua
-- include: record.lua
local function set_started(keys, raw, bit)
  local id, index = child_of(raw)
  if not id then return nil end
  local record = record_of(keys, id)
  if record.code or index >= record.hwm then return nil end
  local bits = record.at .. ':started'
  -- a key that only a clear bit made would have no TTL
  if redis.call('GETBIT', bits, index) ~= bit then redis.call('SETBIT', bits, index, bit) end
  return id
end

-- A job was popped; `touched` gets the id of its fan-out, for touch_all().
local function mark_started(keys, raw, touched)
  local id = set_started(keys, raw, 1)
  if id then touched[id] = true end
end

-- A job was put back into its queue.
local function clear_started(keys, raw)
  set_started(keys, raw, 0)
end
