-- Puts seconds that have delayed jobs into the schedule, or nobody would ever look there.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, then seconds.
-- Returns how many were not in the schedule, or at another time; an error if that is no sorted set.
-- Idempotent.
-- include: ../resque/keys.lua
local keys, mended = keys_of(ARGV[1]), 0
for at = 2, #ARGV do
  local second = ARGV[at]
  local score = redis.call('ZSCORE', keys.schedule, second)
  if tonumber(score or '') ~= tonumber(second) and redis.call('TYPE', keys.delayed(second)).ok == 'list' then
    redis.call('ZADD', keys.schedule, second, second)
    mended = mended + 1
  end
end
return mended
