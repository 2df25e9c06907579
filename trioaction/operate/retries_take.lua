-- Takes jobs that wait for their next attempt: to delete them, or to run them at once.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, "delete" or "run"; then for each job its raw element, and its guard and job id if it is the run of a
--   recurring action ("" if it can be none).
-- Returns a text for each job: "taken"; or, with nothing written of it, "gone" (it waits no more), "homeless" (it names no
--   queue to run in), or what is wrong with a key.
-- Idempotent in that a second call finds them gone.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: ../resque/queue_of.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: ../work/guard.lua
-- include: drop_child.lua
local keys, how, codes, touched = keys_of(ARGV[1]), ARGV[2], {}, {}

local function obstacle(queue)
  local needed = {{keys.retry, 'zset', 'sorted set'}}
  if how == 'run' then
    if not queue then return 'homeless' end
    needed[2], needed[3] = {keys.queue(queue), 'list', 'list'}, {keys.queues, 'set', 'set'}
  end
  for _, key in ipairs(needed) do
    if not fits(key[1], key[2]) then return 'WRONGTYPE ' .. key[1] .. ' is no ' .. key[3] end
  end
  return nil
end

-- The first write is ZREM, which a full Redis lets pass: so do then all that follow.
local function take(raw, action, job_id)
  local queue = how == 'run' and queue_of(raw)
  local problem = obstacle(queue)
  if problem then return problem end
  if redis.call('ZREM', keys.retry, raw) == 0 then return 'gone' end
  if how == 'run' then
    redis.call('SADD', keys.queues, queue)
    redis.call('RPUSH', keys.queue(queue), raw)
  else
    drop_child(keys, raw, touched)
    if job_id ~= '' then guard_until(keys, action, job_id) end
  end
  return 'taken'
end

for at = 3, #ARGV, 3 do codes[#codes + 1] = take(ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
touch_all(keys, touched)
tell_all(keys, touched)
return codes
