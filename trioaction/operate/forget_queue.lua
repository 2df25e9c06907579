-- Takes the name of a queue that is empty out of the set of all queues.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, queue.
-- Returns 1 if it was there and is not any more, else 0.
-- Idempotent, but for what it returns.
-- include: ../resque/keys.lua
local keys = keys_of(ARGV[1])
local name = 'queue:' .. ARGV[2]
if redis.call('EXISTS', keys.queue(ARGV[2]), keys.aside(name), keys.kept(name)) > 0 then return 0 end
return redis.call('SREM', keys.queues, ARGV[2])
