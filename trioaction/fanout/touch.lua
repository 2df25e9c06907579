-- Keeps the records of fan-outs alive: all keys of a record expire together, its TTL after its last activity.
-- include: record.lua

-- Restores the full TTL of the records whose ids are the keys of `touched`; a missing or damaged one is passed over.
local function touch_all(keys, touched)
  for id in pairs(touched) do
    local record = record_of(keys, id)
    if not record.code then
      redis.call('PEXPIRE', record.at, record.ttl)
      for part in pairs(FAN_OUT_PARTS) do redis.call('PEXPIRE', record.at .. ':' .. part, record.ttl) end
    end
  end
end
