-- Tells the processes that wait for fan-outs what has become of these in this script: they listen to writes of keys with
-- their inbox in the name.
-- include: record.lua

local function ring(keys, inbox, id, urgency)
  local key = keys.news(inbox) .. id .. ':' .. urgency
  redis.call('SET', key, 1)
  redis.call('DEL', key) -- who listens is told of the write all the same
end

-- "now" for failures, the end and a cancellation; "more" for other ends, once for each time that the owner asked.
local function tell_owner(keys, id, record)
  local completed, failed, total, sealed, armed =
    unpack(redis.call('HMGET', record.at, 'completed', 'failed', 'registered', 'sealed', 'ring'))
  if record.urgent or sealed == '1' and completed + failed >= tonumber(total) then
    ring(keys, record.inbox, id, 'now')
  elseif armed == '1' then
    redis.call('HSET', record.at, 'ring', 0)
    ring(keys, record.inbox, id, 'more')
  end
end

-- The ids are the keys of `touched`.
local function tell_owners(keys, touched)
  for id in pairs(touched) do
    local record = record_of(keys, id)
    if not record.code and record.ended and record.inbox ~= '' then tell_owner(keys, id, record) end
  end
end
