-- Cancels a fan-out: children that have not started are counted at once, wherever they wait, and never run; those that run
-- are counted when they end.
-- include: record.lua
-- include: touch.lua
-- include: news.lua
local KNOWN_FOR, KNOWN_FOR_LONG = 60000, 604800000 -- ms; a detached id is not marked, and its jobs may wait for long

-- Marks the children that neither run nor have ended as cancelled and done, and returns how many these are.
local function end_waiting(at)
  local children, waiting = at .. ':children', at .. ':waiting'
  redis.call('BITOP', 'OR', waiting, at .. ':started', at .. ':done')
  redis.call('BITOP', 'AND', waiting, children, waiting)
  redis.call('BITOP', 'XOR', waiting, children, waiting)
  for _, part in ipairs({':done', ':cancelled'}) do redis.call('BITOP', 'OR', at .. part, at .. part, waiting) end
  local count = redis.call('BITCOUNT', waiting)
  redis.call('DEL', waiting)
  return count
end

-- Children that are held back leave their place here, as others leave their queue: these are counted then.
local function drop_held(keys, at)
  local held = redis.call('LLEN', at .. ':held')
  if held > 0 then redis.pcall('INCRBY', keys.stat('cancelled'), held) end
  redis.call('DEL', at .. ':held')
end

-- Returns "ok"; "again" if it was cancelled before; "finished" if all have ended; "gone" or "wrongtype".
local function cancel_record(keys, id)
  local record = record_of(keys, id)
  if record.code then return record.code end
  touch_all(keys, {[id] = true}) -- first, since a full Redis refuses to begin with the others
  if record.is_cancelled then return 'again' end
  local completed, failed, registered, sealed, owner =
    unpack(redis.call('HMGET', record.at, 'completed', 'failed', 'registered', 'sealed', 'owner'))
  if sealed == '1' and completed + failed >= tonumber(registered) then return 'finished' end
  if sealed ~= '1' then redis.call('HSET', record.at, 'cut', is_whole(record) and 0 or 1) end
  local waiting = end_waiting(record.at)
  redis.call('HINCRBY', record.at, 'failed', waiting)
  redis.call('HINCRBY', record.at, 'cancelled', waiting)
  redis.call('HSET', record.at, 'is_cancelled', 1, 'sealed', 1, 'total', registered, 'out', 0)
  drop_held(keys, record.at)
  record.is_cancelled, record.has_news, record.urgent = true, true, true
  redis.call('SET', keys.cancelled(id), 1, 'PX', record.inbox ~= '' and KNOWN_FOR or KNOWN_FOR_LONG)
  if record.inbox == '' then redis.pcall('SREM', keys.owned(owner or ''), id) end
  touch_all(keys, {[id] = true})
  tell_all(keys, {[id] = true})
  return 'ok'
end
