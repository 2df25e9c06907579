-- Keeps the records of fan-outs alive: all keys of a record expire together, its TTL after its last activity. With children
-- that are held back it does not expire, since these are jobs.
-- include: record.lua

local function touch(record)
  local has_jobs = record.max_running > 0 and redis.call('EXISTS', record.at .. ':held') == 1
  if has_jobs then
    redis.call('PERSIST', record.at)
    for part in pairs(FAN_OUT_PARTS) do redis.call('PERSIST', record.at .. ':' .. part) end
  else
    redis.call('PEXPIRE', record.at, record.ttl)
    for part in pairs(FAN_OUT_PARTS) do redis.call('PEXPIRE', record.at .. ':' .. part, record.ttl) end
  end
end

-- Restores the full TTL of the records whose ids are the keys of `touched`; a missing or damaged one is passed over.
local function touch_all(keys, touched)
  for id in pairs(touched) do
    local record = record_of(keys, id)
    if not record.code then touch(record) end
  end
end
