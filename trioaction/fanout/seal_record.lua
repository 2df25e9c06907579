-- Seals a fan-out at what was really registered, after which nothing can be added to it: tell_all() has the rest. If nobody
-- waits for it, it has no owner any more.
-- include: record.lua
-- include: touch.lua

-- `cut` is 1 if its registrar was not through. Returns "ok", "again" if it was sealed before, "gone" or "wrongtype".
local function seal_record(keys, id, cut)
  local record = record_of(keys, id)
  if record.code then return record.code end
  touch_all(keys, {[id] = true}) -- first, since a full Redis refuses to begin with the others
  local sealed, registered, owner = unpack(redis.call('HMGET', record.at, 'sealed', 'registered', 'owner'))
  if sealed == '1' then return 'again' end
  redis.call('HSET', record.at, 'sealed', 1, 'cut', is_whole(record) and 0 or cut, 'total', registered)
  record.has_news = true
  if record.inbox == '' then redis.pcall('SREM', keys.owned(owner or ''), id) end
  return 'ok'
end
