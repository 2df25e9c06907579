-- Looks at the locks for which jobs wait, those whose time has come: of one that is free, the first job goes to its queue.
-- The end of a job of ours does that by itself; this is for locks of other programs, for those that have lapsed, and where the
-- job that was let go did not take it.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, Unix ms, most locks.
-- Returns {"lost"} if this process does not lead (nothing is written), else {"ok", jobs that went, next, problems}: next is
--   when (Unix ms) to look again, "" if nobody waits. Problems are texts.
-- Idempotent in that each job goes once.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: job_locks.lua
local PAUSE = 1000 -- ms, until the next look at a lock
local keys, process, now = keys_of(ARGV[1]), ARGV[2], tonumber(ARGV[4])
if redis.pcall('GET', keys.leader) ~= process then return {'lost'} end
if not fits(keys.blocked, 'zset') then
  return {'ok', 0, '', {keys.blocked .. ' is no sorted set: jobs that wait for a lock may wait for ever'}}
end
local touched = {}
local due, went = redis.call('ZRANGEBYSCORE', keys.blocked, '-inf', now, 'LIMIT', 0, ARGV[5]), 0
if #due > 0 then redis.call('PEXPIRE', keys.lease(process), ARGV[3]) end -- the first write, which a full Redis lets pass

for _, job in ipairs(due) do
  if not is_outstanding(keys, job) and hand_over(keys, job, touched) then went = went + 1 end
  if keys.skipped >= MAX_SKIPPED then break end -- the rest with the next call
  redis.call('ZADD', keys.blocked, 'XX', string.format('%.0f', now + PAUSE), job)
end
touch_all(keys, touched)
tell_all(keys, touched)
local first = redis.call('ZRANGE', keys.blocked, 0, 0, 'WITHSCORES')
return {'ok', went, first[2] or '', {}}
