-- A child of a fan-out that failed waits for another attempt: it has not started, and its record lives on meanwhile.
-- include: record.lua

-- `delay` is in ms; `touched` gets the id, for touch_all(). A record that is gone or damaged is left alone.
local function put_child_off(keys, id, index, delay, touched)
  local record = record_of(keys, id)
  index = tonumber(index)
  if record.code or not index or index < 0 or index >= record.hwm or index % 1 ~= 0 then return end
  redis.call('SETBIT', record.at .. ':started', index, 0)
  redis.call('HDEL', record.at .. ':notes', index)
  local ttl = record.result_ttl + delay
  if ttl > record.ttl then
    record.ttl = ttl
    redis.call('HSET', record.at, 'ttl', ttl)
  end
  record.has_moved = true
  touched[id] = true
end
