-- Puts one job off until a second, in the three keys that node-resque and resque-scheduler have for it.

-- The error that it would be, if a key is of the wrong type; else nil.
local function undelayable(keys, second, raw)
  local list = keys.delayed(second)
  if not fits(list, 'list') then return redis.error_reply('WRONGTYPE ' .. list .. ' is no list') end
  if not fits(keys.schedule, 'zset') then return redis.error_reply('WRONGTYPE ' .. keys.schedule .. ' is no sorted set') end
  if not fits(keys.timestamps(raw), 'set') then return redis.error_reply('WRONGTYPE the timestamps key of this job is no set') end
end

local function delay_one(keys, second, raw)
  -- A full Redis refuses the first of these, before anything has happened.
  redis.call('RPUSH', keys.delayed(second), raw)
  redis.call('SADD', keys.timestamps(raw), 'delayed:' .. second)
  redis.call('ZADD', keys.schedule, second, second)
end
