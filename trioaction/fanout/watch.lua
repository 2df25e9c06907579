-- Asks for a fan-out's news: see tell_all() in news.lua.
-- include: record.lua

-- Whoever has this inbox is told once of what happens next.
local function watch(record, inbox)
  local watchers = record.at .. ':watchers'
  redis.call('SADD', watchers, inbox)
  local ttl = redis.call('PTTL', record.at)
  if ttl >= 0 then redis.call('PEXPIRE', watchers, ttl) end
end
