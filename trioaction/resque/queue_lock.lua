-- The lock of a unique job that waits in its queue: node-resque's QueueLock with its key and value, and beside it whose it is.
-- A job is known here as "<class>:<queue>:<arguments>".

local function owner_of_queue_lock(keys, job) return keys.owner('lock:' .. job) end

local function lockable(keys, job)
  return fits(keys.queue_lock(job), 'string') and fits(owner_of_queue_lock(keys, job), 'string')
end

-- Does an equal job wait in the queue? A lock whose number has passed is nobody's, as in node-resque.
local function is_queued(keys, job, now)
  local value = redis.call('GET', keys.queue_lock(job))
  if not value then return false end
  return not string.find(value, '^%d+$') or now <= tonumber(value)
end

local function lock_queued(keys, job, raw, now, seconds)
  local value = string.format('%d', now + seconds + 1)
  redis.call('SET', keys.queue_lock(job), value, 'EX', seconds)
  redis.call('SET', owner_of_queue_lock(keys, job), redis.sha1hex(raw) .. ' ' .. value, 'EX', seconds)
end

-- Frees the lock of a job's place in its queue if it is this element's, or nobody's of ours: a lapsed one may be another's by
-- now. Equal elements have the same bytes and cannot be told apart.
local function free_queue_lock(keys, job, raw)
  local owner = owner_of_queue_lock(keys, job)
  local held = redis.pcall('GET', owner)
  if held and (type(held) == 'table' or string.sub(held, 1, 40) ~= redis.sha1hex(raw)) then return end
  redis.call('DEL', keys.queue_lock(job), owner)
end
