-- Which children nobody wants any more: those of a fan-out that was cancelled, even when its record has expired since.
-- include: identity.lua
-- include: record.lua

-- Ids of fan-outs that somebody waits for are marked, since such a record cannot expire while anybody does.
local function is_attached(id)
  return string.sub(id, 13, 13) == '8'
end

local function is_void(keys, id)
  local record = record_of(keys, id)
  if record.code ~= 'gone' then return record.is_cancelled end
  if record.is_cancelled == nil then
    record.is_cancelled = is_attached(id) or redis.call('EXISTS', keys.cancelled(id)) == 1
  end
  return record.is_cancelled
end
