-- Moves jobs between the places of a process: a slot is "3", and "p3" the place of a job that is parked: it waits for children
-- of its own, and its slot is free for others. Each place is a worker; those of parked jobs are registered while they are used.
-- include: inflight.lua
-- include: job_locks.lua

local function is_parked(place)
  return string.byte(place) == 112 -- "p"
end

-- A parked job gets a worker of its own, which has started when its process has.
local function enter_place(keys, process, queues, worker)
  redis.pcall('SADD', keys.workers, worker .. ':' .. queues)
  local started = redis.pcall('GET', keys.started(process .. '-1', queues))
  if type(started) == 'string' then redis.call('SET', keys.started(worker, queues), started) end
end

-- A place is left: it is no worker any more, if it was that of a parked job.
local function leave_place(keys, process, queues, place)
  local worker = process .. '-' .. place
  redis.call('DEL', keys.working_on(worker, queues))
  if not is_parked(place) then return end
  redis.pcall('SREM', keys.workers, worker .. ':' .. queues)
  redis.call('DEL', keys.started(worker, queues))
end

-- The record of what is worked on, with the name of its worker changed.
local function renamed(record, from, to)
  local first, last = string.find(record, '"worker":"' .. from .. '"', 1, true)
  return first and string.sub(record, 1, first - 1) .. '"worker":"' .. to .. '"' .. string.sub(record, last + 1) or record
end

-- Does nothing if the job with this token is not there, as when it was moved before.
local function move(keys, process, queues, from, token, to)
  local inflight = keys.inflight(process)
  local entry = redis.call('HGET', inflight, from)
  if not has_token(entry, token) or redis.call('HEXISTS', inflight, to) == 1 then return end
  local old, new = process .. '-' .. from, process .. '-' .. to
  redis.call('HSET', inflight, to, entry)
  redis.call('HDEL', inflight, from)
  move_lock(keys, process, from, to)
  if is_parked(to) then enter_place(keys, process, queues, new) end
  local record = redis.pcall('GET', keys.working_on(old, queues))
  if type(record) == 'string' then redis.call('SET', keys.working_on(new, queues), renamed(record, old, new)) end
  leave_place(keys, process, queues, from)
end

-- `count` triples from, token, to; in the order in which they happened.
local function move_all(keys, process, queues, words, first, count)
  for at = first, first + 3 * (count - 1), 3 do move(keys, process, queues, words[at], words[at + 1], words[at + 2]) end
end

-- Clears the places that ended in this cycle and were not filled again.
local function free_places(keys, cycle)
  local places, records = {}, {}
  for place in pairs(cycle.ended) do
    if not cycle.filled[place] then
      places[#places + 1] = place
      records[#records + 1] = keys.working_on(cycle.process .. '-' .. place, cycle.queues)
      if is_parked(place) then leave_place(keys, cycle.process, cycle.queues, place) end
    end
  end
  if #places == 0 then return end
  redis.call('HDEL', cycle.inflight, unpack(places))
  redis.call('DEL', unpack(records))
end
