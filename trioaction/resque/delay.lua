-- Puts one job off until a second, as node-resque does, but in one step.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix second, raw element.
-- Returns "ok"; or the error WRONGTYPE that names the key, and nothing is written.
-- Not idempotent: two equal jobs at the same second are two jobs.
-- include: keys.lua
-- include: types.lua
local keys, second, raw = keys_of(ARGV[1]), ARGV[2], ARGV[3]
local list, timestamps = keys.delayed(second), keys.timestamps(raw)
if not fits(list, 'list') then return redis.error_reply('WRONGTYPE ' .. list .. ' is no list') end
if not fits(keys.schedule, 'zset') then return redis.error_reply('WRONGTYPE ' .. keys.schedule .. ' is no sorted set') end
if not fits(timestamps, 'set') then return redis.error_reply('WRONGTYPE the timestamps key of this job is no set') end
-- A full Redis refuses the first of these, before anything has happened.
redis.call('RPUSH', list, raw)
redis.call('SADD', timestamps, 'delayed:' .. second)
redis.call('ZADD', keys.schedule, second, second)
return 'ok'
