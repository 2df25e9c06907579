-- Takes a lock away, whoever has it; the first job that waits for it goes to its queue.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the lock's key without the namespace.
-- Returns 1, or 0 if nobody has such a lock and nobody waits for it.
-- Idempotent: what is gone is not deleted again.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: ../work/job_locks.lua
local keys, lock, touched = keys_of(ARGV[1]), ARGV[2], {}
local deleted = redis.call('DEL', ARGV[1] .. ':' .. lock)
redis.call('DEL', keys.owner(lock))
local job = string.match(lock, '^workerslock:(.*)$')
if job then
  if hand_over(keys, job, touched) then deleted = 1 end
  touch_all(keys, touched)
  tell_all(keys, touched)
end
return deleted
