-- Registers one batch of children of a fan-out and pushes their jobs: all of it, once, or none.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, id, the inbox to tell when there is room, number of the batch, highest index in it + 1, number of runs of
--   indexes without a gap; then for each run its first index and its last + 1; then for each queue its name, how many jobs it
--   gets, and those.
-- Returns {code, key}: "ok" (also if the batch was registered before), "full" (so many may not be registered before others
--   have ended), "gone", "cancelled", "sealed" or "wrongtype" with the key that is the matter; nothing is registered but with "ok".
-- Idempotent by the number of the batch, whose bit is set last.
-- include: ../resque/keys.lua
-- include: record.lua
-- include: news.lua
-- include: children.lua
local PUSH = 1000 -- unpack() ends at about 8,000
local keys, id, batch, hwm = keys_of(ARGV[1]), ARGV[2], ARGV[4], tonumber(ARGV[5])
local record = record_of(keys, id)
if record.code then return {record.code, record.key} end
if redis.call('GETBIT', record.at .. ':batches', batch) == 1 then
  touch_all(keys, {[id] = true})
  return {'ok', ''}
end
if record.is_cancelled then return {'cancelled', record.at} end
if redis.call('HGET', record.at, 'sealed') ~= '0' then return {'sealed', record.at} end
if not fits(keys.queues, 'set') then return {'wrongtype', keys.queues} end

local first_group = 7 + 2 * tonumber(ARGV[6])
local groups, jobs, at = {}, 0, first_group
while at <= #ARGV do
  local queue, first, last = ARGV[at], at + 2, at + 1 + tonumber(ARGV[at + 1])
  if not fits(keys.queue(queue), 'list') then return {'wrongtype', keys.queue(queue)} end
  groups[#groups + 1] = {queue = queue, first = first, last = last}
  jobs, at = jobs + last - first + 1, last + 1
end

local left = record.registered - record.completed - record.failed
if record.max_queued > 0 and left > 0 and left + jobs > record.max_queued then
  redis.call('PEXPIRE', keys.news(''), 1) -- no key of ours: a full Redis, which refuses to begin with HSET, lets the rest pass
  redis.call('HSET', record.at, 'pace', ARGV[3])
  touch_all(keys, {[id] = true})
  return {'full', ''}
end

-- Children of a parent that waits are ahead of other parents in its own queue; of this batch the first one comes first.
local function push_in_front(queue, first, last)
  for job = last, first, -1 do redis.call('LPUSH', queue, ARGV[job]) end
end

local function push(queue, first, last)
  for from = first, last, PUSH do
    redis.call('RPUSH', queue, unpack(ARGV, from, math.min(from + PUSH - 1, last)))
  end
end

-- The first write is one that a full Redis refuses, before anything has happened.
local front, room = redis.call('HGET', record.at, 'front'), record.max_running - record.out
for _, group in ipairs(groups) do
  redis.call('SADD', keys.queues, group.queue)
  local last = record.max_running > 0 and math.min(group.last, group.first + math.max(room, 0) - 1) or group.last
  local place = group.queue == front and push_in_front or push
  place(keys.queue(group.queue), group.first, last)
  push(record.at .. ':held', last + 1, group.last)
  room = room - (last - group.first + 1)
end
if record.max_running > 0 then redis.call('HSET', record.at, 'out', record.max_running - room) end
for run = 7, first_group - 1, 2 do set_range(record.at .. ':children', tonumber(ARGV[run]), tonumber(ARGV[run + 1])) end
local registered = redis.call('HINCRBY', record.at, 'registered', jobs)
if hwm > record.hwm then redis.call('HSET', record.at, 'hwm', hwm) end
if redis.call('HGET', record.at, 'announced') == '0' then redis.call('HSET', record.at, 'total', registered) end
redis.call('SETBIT', record.at .. ':batches', batch, 1)
touch_all(keys, {[id] = true})
record.has_moved = true
tell_all(keys, {[id] = true})
return {'ok', ''}
