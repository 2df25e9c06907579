-- Enqueues jobs of one action in one queue, each if no equal one waits in the queue, or for its time.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix second, seconds for which a job keeps equal ones out of its queue (0: not at all), "1" if one that waits
--   for its time does, queue, "<class>:<queue>:", raw elements (250, or 1 MiB of them).
-- Returns for each element 1 if it was enqueued, 0 if it is refused; for the first ones only if it has looked at enough: the
--   others are to be asked for again, and each call drops what it found stale.
--   Or the error WRONGTYPE that names the key, and nothing is
--   written.
-- Not idempotent, but no second job comes of it: the same call again finds the first one, and says that it refuses.
-- include: keys.lua
-- include: types.lua
-- include: args_of.lua
-- include: queue_lock.lua
-- include: waits.lua
local FIRST = 7
local keys, now, hold, queue = keys_of(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local asks_delayed, looks = ARGV[4] == '1', looks_of()
local list, jobs, told = keys.queue(queue), {}, {}

local function wrong(key, kind) return redis.error_reply('WRONGTYPE ' .. key .. ' is no ' .. kind) end

if not fits(list, 'list') then return wrong(list, 'list') end
if not fits(keys.queues, 'set') then return wrong(keys.queues, 'set') end
for at = FIRST, #ARGV do
  local job = ARGV[6] .. args_of(ARGV[at])
  if hold > 0 and not lockable(keys, job) then return wrong('the lock of this job', 'string') end
  if asks_delayed and not readable(keys, job, ARGV[at]) then return wrong('the timestamps key of this job', 'set') end
  jobs[at] = job
end

for at = FIRST, #ARGV do
  local job, raw = jobs[at], ARGV[at]
  local waits = asks_delayed and waits_for_its_time(keys, looks, job, raw)
  if waits == nil then break end
  local refused = waits or hold > 0 and is_queued(keys, job, now)
  if not refused then
    -- A full Redis refuses the first of these, before anything has happened.
    redis.call('SADD', keys.queues, queue)
    if hold > 0 then lock_queued(keys, job, raw, now, hold) end
    redis.call('RPUSH', list, raw)
  end
  told[#told + 1] = refused and 0 or 1
end
forget_stale(looks)
return told
