-- Moves delayed jobs that are due into their queues, the longest due first, at most so many, or a little over 1 MiB.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, process id, lease in ms, Unix second, most jobs, failed_at for those that name no queue; then the actions
--   whose jobs are unique, each with the seconds for which one that waits in its queue keeps equal ones out (0: not at all).
-- Returns {"lost"} if this process does not lead (nothing is written), else {"ok", moved, failed, next, problems, dropped}: next
--   is the second that is due next, "" if there is none; if it is not in the future, call again. Problems are texts. Dropped
--   are jobs of which an equal one is in its queue.
-- Idempotent in that each job is moved by the one call that takes it from its second; its bytes stay as they are.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
-- include: bury.lua
-- include: delayed_job.lua
local MAX_BYTES = 1048576
local keys, process, most = keys_of(ARGV[1]), ARGV[2], tonumber(ARGV[5])
if redis.pcall('GET', keys.resque_leader) ~= process then return {'lost'} end
if not fits(keys.schedule, 'zset') then
  return {'ok', 0, 0, '', {keys.schedule .. ' is no sorted set: delayed jobs stay where they are'}, 0}
end

local pass = {
  process = process, now = tonumber(ARGV[4]), failed_at = ARGV[6],
  queues = {}, problems = {}, bytes = 0, steps = 0, moved = 0, failed = 0, dropped = 0, unique = #ARGV > 6 and {},
}
for at = 7, #ARGV, 2 do pass.unique[ARGV[at]] = tonumber(ARGV[at + 1]) end

local function spent()
  return pass.steps >= most or pass.bytes >= MAX_BYTES
end

-- A second whose list is empty is done with; so is one whose key is no list, in which no job can be.
local function empty_second(second)
  local list = keys.delayed(second)
  if fits(list, 'list') then
    while not spent() and move_one(keys, pass, second) do pass.steps = pass.steps + 1 end
    if redis.call('EXISTS', list) == 1 then return end
  else
    pass.problems[#pass.problems + 1] = list .. ' is no list: nothing is taken from it'
  end
  pass.steps = pass.steps + 1
  redis.call('ZREM', keys.schedule, second)
end

local due = redis.call('ZRANGEBYSCORE', keys.schedule, '-inf', pass.now, 'LIMIT', 0, most)
-- The first write, and one that a full Redis lets pass: so do then all that follow.
if #due > 0 then redis.call('PEXPIRE', keys.lease(process), ARGV[3]) end
for _, second in ipairs(due) do
  if spent() then break end
  empty_second(second)
end
local first = redis.call('ZRANGE', keys.schedule, 0, 0, 'WITHSCORES')
return {'ok', pass.moved, pass.failed, first[2] or '', pass.problems, pass.dropped}
