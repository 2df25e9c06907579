-- Children that are registered and held back in the record, because as many as may run at once are out: in a queue, running,
-- or waiting for another attempt.
-- include: record.lua
-- include: ../resque/push_one.lua
-- include: ../resque/queue_of.lua

-- The next child that is held back, and its queue; false if there is none. What names no queue, since somebody else has written
-- it there, takes no child's place.
local function next_held(keys, record)
  local raw = redis.call('LPOP', record.at .. ':held')
  while raw do
    local queue = queue_of(raw)
    if queue then return raw, queue end
    redis.call('RPUSH', keys.stranded_jobs, raw)
    raw = redis.call('LPOP', record.at .. ':held')
  end
  return false
end

-- One child that was out has ended: the next one takes its place.
local function let_next_out(keys, record)
  if record.max_running == 0 or record.is_cancelled then return end
  local raw, queue = next_held(keys, record)
  if not raw then
    record.out = math.max(0, record.out - 1) -- a forged end counts too, and a number below 0 would be taken for damage
    redis.call('HSET', record.at, 'out', record.out)
    return
  end
  push_one(keys, queue, raw, queue == redis.call('HGET', record.at, 'front') and 'LPUSH' or 'RPUSH')
end
