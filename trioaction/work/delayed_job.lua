-- One delayed job that is due: into its queue, or where it is safe if it has none. `pass` is promote.lua's state.
-- include: ../resque/queue_of.lua
-- include: only_one.lua
local POSTPONED = 60 -- seconds, until a job whose queue is no list is tried again

-- Is the queue's key a list? Asked once in a run, which also makes the queue known.
local function takes_jobs(keys, pass, queue)
  if pass.queues[queue] == nil then
    local key = keys.queue(queue)
    pass.queues[queue] = fits(key, 'list')
    if not pass.queues[queue] then
      pass.problems[#pass.problems + 1] = key .. ' is no list: jobs that are due for it keep waiting'
    elseif type(redis.pcall('SADD', keys.queues, queue)) == 'table' then
      pass.problems[#pass.problems + 1] = keys.queues .. ' is no set: workers of "*" do not find the queue ' .. queue
    end
  end
  return pass.queues[queue]
end

local function postpone(keys, pass, raw)
  local second = pass.now + POSTPONED
  while not fits(keys.delayed(second), 'list') do second = second + 1 end
  redis.call('RPUSH', keys.delayed(second), raw)
  redis.pcall('SADD', keys.timestamps(raw), 'delayed:' .. second)
  redis.call('ZADD', keys.schedule, second, second)
end

-- Moves the first job of a second; false if there is none.
local function move_one(keys, pass, second)
  local raw = redis.call('LPOP', keys.delayed(second))
  if not raw then return false end
  redis.pcall('SREM', keys.timestamps(raw), 'delayed:' .. second) -- another's key of another type must not stop the rest
  pass.bytes = pass.bytes + #raw
  local queue = queue_of(raw)
  if not queue then
    bury(keys, raw, pass.process, pass.failed_at, pass.problems)
    pass.failed = pass.failed + 1
  elseif takes_jobs(keys, pass, queue) then
    if not pass.unique or is_only_one(keys, pass, queue, raw) then
      redis.call('RPUSH', keys.queue(queue), raw)
      pass.moved = pass.moved + 1
    else
      pass.dropped = pass.dropped + 1
    end
  else
    postpone(keys, pass, raw)
  end
  return true
end
