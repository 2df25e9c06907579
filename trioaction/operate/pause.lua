-- Pauses a queue for the workers of all processes.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, queue.
-- Returns 1, or 0 if it was paused already; or the error WRONGTYPE that names the key.
-- Idempotent, but for what it returns.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys = keys_of(ARGV[1])
if not fits(keys.paused, 'set') then return redis.error_reply('WRONGTYPE ' .. keys.paused .. ' is no set') end
-- The first write, and one that a full Redis lets pass.
redis.call('PERSIST', keys.paused)
return redis.call('SADD', keys.paused, ARGV[2])
