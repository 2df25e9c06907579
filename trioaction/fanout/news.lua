-- What has become of fan-outs in this script: who waits for them is told, by writes of keys with its inbox in the name, and what
-- is to follow the last child is done. A record `has_news` if a child has ended or none can come any more, and `has_moved` if
-- some have come, or started, or were put off.
-- include: record.lua
-- include: touch.lua
-- include: follow_up.lua

local function ring(keys, inbox, id, urgency)
  local key = keys.news(inbox) .. id .. ':' .. urgency
  redis.call('SET', key, 1)
  redis.call('DEL', key) -- who listens is told of the write all the same
end

-- The last child is accounted for, and none can be added. The flag makes it once, whatever else happens to the record.
local function finish_fan_out(keys, id, record, counts)
  redis.call('HSET', record.at, 'over', 1)
  record.ttl = record.result_ttl
  redis.call('HSET', record.at, 'ttl', record.ttl)
  follow_up_all(keys, id, record, counts)
  touch(record)
end

-- The owner is told "now" of failures, of the end and of a cancellation; whoever else watches it of all that happens, and the
-- owner of other ends, once for each time that it asked.
local function tell_watchers(keys, id, record, urgency)
  local watchers = record.at .. ':watchers'
  if urgency == 'now' and record.inbox ~= '' then ring(keys, record.inbox, id, urgency) end
  for _, inbox in ipairs(redis.call('SMEMBERS', watchers)) do
    local is_owner = inbox == record.inbox
    if not is_owner or urgency ~= 'now' and record.has_news then ring(keys, inbox, id, urgency) end
    if not is_owner or record.has_news then redis.call('SREM', watchers, inbox) end
  end
end

-- Who registers children and found no room is told when half of it is free, or when it is no use to wait.
local function tell_registrar(keys, id, record, counts, is_sealed)
  if record.pace == '' then return end
  local left = counts.registered - counts.completed - counts.failed
  if not is_sealed and not record.is_cancelled and 2 * left > record.max_queued then return end
  ring(keys, record.pace, id, 'room')
  redis.call('HSET', record.at, 'pace', '')
end

local function tell(keys, id, record)
  local counts = {}
  counts.registered, counts.completed, counts.failed, counts.cancelled, counts.sealed, counts.cut, counts.over = unpack(
    redis.call('HMGET', record.at, 'registered', 'completed', 'failed', 'cancelled', 'sealed', 'cut', 'over'))
  local is_sealed = counts.sealed == '1'
  local is_finished = is_sealed and counts.completed + counts.failed >= tonumber(counts.registered)
  if is_finished and counts.over ~= '1' then finish_fan_out(keys, id, record, counts) end
  tell_registrar(keys, id, record, counts, is_sealed)
  tell_watchers(keys, id, record, (record.urgent or is_finished) and 'now' or 'more')
end

-- The ids are the keys of `touched`; those to which nothing has happened are passed over.
local function tell_all(keys, touched)
  for id in pairs(touched) do
    local record = record_of(keys, id)
    if not record.code and record.has_news then
      tell(keys, id, record)
    elseif not record.code and record.has_moved then
      tell_watchers(keys, id, record, 'more')
    end
  end
end
