-- One delayed job out of its second, and what becomes of it: deleted, pushed to its queue, or put off until another second.
-- include: ../resque/types.lua
-- include: ../resque/queue_of.lua
-- include: ../fanout/put_off.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: drop_child.lua

-- `how` is "delete", "run" or a second; `now` is in Unix ms.
local function pass_of(now, how)
  return {now = tonumber(now), how = how, touched = {}, fits = {}}
end

-- What is wrong with a key; nil if nothing is. Asked once in a run: nobody but this script changes it meanwhile.
local function trouble(pass, key, kind, words)
  if pass.fits[key] == nil then pass.fits[key] = fits(key, kind) end
  return not pass.fits[key] and 'WRONGTYPE ' .. key .. ' is no ' .. words or nil
end

-- What stands in the way of all jobs before anything is written; nil if nothing does.
local function obstacle(keys, pass)
  local problem = trouble(pass, keys.schedule, 'zset', 'sorted set')
  if problem or pass.how == 'delete' then return problem end
  if pass.how == 'run' then return trouble(pass, keys.queues, 'set', 'set') end
  return trouble(pass, keys.delayed(pass.how), 'list', 'list')
end

-- The queue that a job would go to now; or nil, and what stands in its way.
local function destination(keys, pass, raw)
  local queue = queue_of(raw)
  if not queue then return nil, 'homeless' end
  local problem = trouble(pass, keys.queue(queue), 'list', 'list')
  if problem then return nil, problem end
  return queue
end

-- Takes a job out of its second, and what pointed to it: an equal one there needs its note still, and others need the second.
-- How many were there, 2 at most; nil if the key is no list. A long list is gone through once: both are taken out of it, and the
-- equal one goes to its end.
local function leave_second(keys, second, raw)
  local list = keys.delayed(second)
  local removed = redis.pcall('LREM', list, 2, raw)
  if type(removed) == 'table' then return nil end
  if removed == 2 then
    redis.call('RPUSH', list, raw)
  elseif removed == 1 then
    if redis.call('EXISTS', list) == 0 then redis.call('ZREM', keys.schedule, second) end
    redis.pcall('SREM', keys.timestamps(raw), 'delayed:' .. second) -- another's key of another type must not stop the rest
  end
  return removed
end

local function put_at(keys, pass, second, raw)
  redis.call('RPUSH', keys.delayed(second), raw)
  redis.pcall('SADD', keys.timestamps(raw), 'delayed:' .. second)
  redis.call('ZADD', keys.schedule, second, second) -- it is written, and so the leader rung up, if it was not there
  local id, index = child_of(raw)
  if id then put_child_off(keys, id, index, math.max(0, second * 1000 - pass.now), pass.touched) end
end

-- What becomes of a job that is nowhere any more.
local function place(keys, pass, queue, raw)
  if pass.how == 'delete' then
    drop_child(keys, raw, pass.touched)
  elseif pass.how == 'run' then
    redis.call('SADD', keys.queues, queue)
    redis.call('RPUSH', keys.queue(queue), raw)
  else
    put_at(keys, pass, pass.how, raw)
  end
end

-- The first write is LREM, which a full Redis lets pass: so do then all that follow.
local function take_delayed(keys, pass, second, raw)
  local problem, queue = obstacle(keys, pass)
  if not problem and pass.how == 'run' then queue, problem = destination(keys, pass, raw) end
  if problem then return problem end
  local left = leave_second(keys, second, raw)
  if not left then return 'WRONGTYPE ' .. keys.delayed(second) .. ' is no list' end
  if left == 0 then return 'gone' end
  place(keys, pass, queue, raw)
  return 'taken'
end

local function end_pass(keys, pass)
  touch_all(keys, pass.touched)
  tell_all(keys, pass.touched)
end
