-- Ends the pause of a queue, and wakes the workers that wait for jobs of it.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, queue.
-- Returns 1, or 0 if it was not paused; or the error WRONGTYPE that names the key.
-- Idempotent, but for what it returns: it wakes them again.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local keys = keys_of(ARGV[1])
if not fits(keys.paused, 'set') then return redis.error_reply('WRONGTYPE ' .. keys.paused .. ' is no set') end
local was_paused, queue = redis.call('SREM', keys.paused, ARGV[2]), keys.queue(ARGV[2])
if redis.call('TYPE', queue).ok == 'list' then
  redis.call('LSET', queue, 0, redis.call('LINDEX', queue, 0)) -- a write that changes nothing rings all the same
end
return was_paused
