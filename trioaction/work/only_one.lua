-- A job of a unique action that is due: it takes the lock of its queue, as one that is enqueued. `pass` is promote.lua's state.
-- include: ../resque/action_of.lua
-- include: ../resque/args_of.lua
-- include: ../resque/queue_lock.lua

-- False for a job of which an equal one waits in the queue. One whose lock cannot be told, or taken, is none.
local function is_only_one(keys, pass, queue, raw)
  local action = action_of(raw)
  local seconds = action and pass.unique[action]
  local args = seconds and args_of(raw)
  if not args then return true end
  local job = action .. ':' .. queue .. ':' .. args
  redis.call('DEL', keys.waits(job)) -- what was noted of it
  if seconds == 0 or not lockable(keys, job) then return true end
  if is_queued(keys, job, pass.now) then return false end
  lock_queued(keys, job, raw, pass.now, seconds)
  return true
end
