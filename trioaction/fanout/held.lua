-- Children that are registered and held back in the record, because as many as may run at once are out: in a queue, running,
-- or waiting for another attempt.
-- include: record.lua
-- include: ../resque/push_one.lua
-- include: ../resque/queue_of.lua

-- One child that was out has ended: the next one takes its place.
local function let_next_out(keys, record)
  if record.max_running == 0 or record.is_cancelled then return end
  local raw = redis.call('LPOP', record.at .. ':held')
  if not raw then
    record.out = math.max(0, record.out - 1) -- a forged end counts too, and a number below 0 would be taken for damage
    redis.call('HSET', record.at, 'out', record.out)
    return
  end
  local queue = queue_of(raw)
  if not queue then -- somebody has written there
    redis.call('RPUSH', keys.stranded_jobs, raw)
    return
  end
  push_one(keys, queue, raw, queue == redis.call('HGET', record.at, 'front') and 'LPUSH' or 'RPUSH')
end
