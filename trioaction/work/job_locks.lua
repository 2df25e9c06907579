-- Locks on jobs of which one at a time may run: node-resque's JobLock with its key and value, and beside it whose it is.
-- Jobs that find it held wait in a list, and the end of the holder lets the first one go.
--
-- A job is known here as "<class>:<queue>:<arguments>". A process notes for each of its places "<word> <seconds> <job>", and the
-- owner of the lock is "<process> <word> <value of the lock>".
-- include: ../resque/types.lua
-- include: ../resque/push_one.lua
-- include: ../fanout/identity.lua
-- include: ends_here.lua
local MAX_SKIPPED = 400 -- in one run of a script, or it would hold Redis up
local OUTSTANDING = 10000 -- ms that the job that went last may need to get a slot
local FIRST_LOOKED_AT = 10 -- jobs of its queue, where it is as long as it has none

local function owner_key(keys, job) return keys.owner('workerslock:' .. job) end

-- Is the lock held by the job of this process that has this word?
local function is_ours(keys, process, word, job, value)
  return value and redis.pcall('GET', owner_key(keys, job)) == process .. ' ' .. word .. ' ' .. value
end

local function write_lock(keys, process, word, job, value, seconds)
  redis.call('SET', keys.job_lock(job), value, 'EX', seconds)
  redis.call('SET', owner_key(keys, job), process .. ' ' .. word .. ' ' .. value, 'EX', seconds)
end

-- May the keys be used that a lock needs?
local function usable(keys, process, job)
  return fits(keys.job_lock(job), 'string') and fits(owner_key(keys, job), 'string') and fits(keys.waiting(job), 'list')
    and fits(keys.locks_of(process), 'hash') and fits(keys.handed(job), 'string')
end

-- Returns "taken", also if it was before; "held" if somebody else has it.
local function take_lock(keys, process, place, word, job, value, seconds)
  local held = redis.call('GET', keys.job_lock(job))
  if held then return is_ours(keys, process, word, job, held) and 'taken' or 'held' end
  write_lock(keys, process, word, job, value, seconds)
  redis.call('HSET', keys.locks_of(process), place, word .. ' ' .. seconds .. ' ' .. job)
  return 'taken'
end

-- Takes the first job from those that wait for a lock: its queue and its element; nil if there is none. What is no job, and
-- children that nobody wants, end here.
local function next_waiting(keys, job, touched)
  while keys.skipped < MAX_SKIPPED do
    local entry = redis.pcall('LPOP', keys.waiting(job))
    if type(entry) ~= 'string' then return nil end
    local size, from = string.match(entry, '^(%d+) ()')
    local queue, raw = string.sub(entry, from or 1, from and from + size - 1 or 0), string.sub(entry, from and from + size or 1)
    local id, index = child_of(raw)
    if size and not (id and ends_here(keys, id, index, touched)) then return queue, raw end
    keys.skipped = keys.skipped + 1
  end
end

-- Lets the first job that waits for a lock go to the head of its queue, if nobody has the lock; true if one went. `touched` is
-- for touch_all() and tell_all().
local function hand_over(keys, job, touched)
  if redis.call('EXISTS', keys.job_lock(job)) == 1 then return false end
  local queue, raw = next_waiting(keys, job, touched)
  if queue then
    redis.call('SET', keys.handed(job), redis.sha1hex(raw) .. ' ' .. queue, 'PX', OUTSTANDING)
    push_one(keys, queue, raw, 'LPUSH')
  end
  if redis.call('EXISTS', keys.waiting(job)) == 0 then redis.pcall('ZREM', keys.blocked, job) end
  return queue ~= nil
end

-- Has the job that went last not come back to ask for the lock yet? Another one would get in front of it. It may wait long for
-- a slot: as long as it is seen near the head of its queue, it keeps its place.
local function is_outstanding(keys, job)
  local handed = redis.pcall('GET', keys.handed(job))
  local sha, queue = string.match(type(handed) == 'string' and handed or '', '^(%x+) (.*)$')
  if not sha then return false end
  if redis.call('PTTL', keys.handed(job)) > OUTSTANDING / 2 then return true end
  local first = redis.pcall('LRANGE', keys.queue(queue), 0, FIRST_LOOKED_AT - 1)
  for _, raw in ipairs(first.err and {} or first) do
    if redis.sha1hex(raw) == sha then
      redis.call('PEXPIRE', keys.handed(job), OUTSTANDING)
      return true
    end
  end
  return false
end

-- A job stands in line: at its head if it has been there before.
local function stand_in_line(keys, job, queue, raw)
  local handed = redis.pcall('GET', keys.handed(job))
  local again = type(handed) == 'string' and string.sub(handed, 1, 40) == redis.sha1hex(raw)
  redis.call(again and 'LPUSH' or 'RPUSH', keys.waiting(job), #queue .. ' ' .. queue .. raw)
end

-- The job of a place has ended, or will run elsewhere. A lock that has lapsed may be another's by now: that one stays.
local function release_lock(keys, process, place, touched)
  local locks = keys.locks_of(process)
  local note = redis.pcall('HGET', locks, place)
  local word, job = string.match(type(note) == 'string' and note or '', '^(%S+) %d+ (.*)$')
  if not word then return end
  redis.call('HDEL', locks, place)
  local value = redis.pcall('GET', keys.job_lock(job))
  if type(value) == 'string' and is_ours(keys, process, word, job, value) then
    redis.call('DEL', keys.job_lock(job), owner_key(keys, job))
  end
  hand_over(keys, job, touched)
end

-- A job has gone from one place to another, with its lock.
local function move_lock(keys, process, from, to)
  local locks = keys.locks_of(process)
  local note = redis.pcall('HGET', locks, from)
  if type(note) ~= 'string' then return end
  redis.call('HSET', locks, to, note)
  redis.call('HDEL', locks, from)
end
