-- Pops jobs into free slots: first to last queue in strict priority, the queues behind "*" in turn. A suspect is the last.
-- include: suspects.lua
-- include: drop.lua
-- include: rates.lua
-- include: within_limits.lua
local MAX_BYTES = 1048576 -- of one reply, about; at least one job is popped
local FIRST_POP = 2 -- jobs, while it is not known how large they are

local function full(cycle)
  return #cycle.free == 0 or cycle.bytes >= MAX_BYTES or cycle.suspect or cycle.dropped >= MAX_DROPPED
end

-- How many jobs to take at once, so that a queue of large ones does not make a huge reply.
local function portion(cycle, most)
  local sofar = #cycle.popped / 3
  local fits = sofar == 0 and FIRST_POP or math.max(1, math.floor((MAX_BYTES - cycle.bytes) * sofar / cycle.bytes))
  return math.min(most, #cycle.free, fits)
end

-- Gives slots to raw elements of one queue. The record of what is in flight comes first: no job may be lost in between.
local function fill(keys, cycle, queue, raws, ids, indexes)
  local entries, records, popped = {}, {}, cycle.popped
  local head = working_head(cycle.run_at, queue)
  for _, raw in ipairs(raws) do
    local slot = table.remove(cycle.free)
    cycle.filled[slot] = true
    cycle.bytes = cycle.bytes + #raw
    entries[#entries + 1], entries[#entries + 2] = slot, inflight_entry(cycle.sequence, queue, raw)
    popped[#popped + 1], popped[#popped + 2], popped[#popped + 3] = slot, queue, raw
    local worker = cycle.process .. '-' .. slot
    records[#records + 1] = keys.working_on(worker, cycle.queues)
    records[#records + 1] = working_record(head, worker, raw)
  end
  redis.call('HSET', cycle.inflight, unpack(entries))
  redis.call('MSET', unpack(records))
  if cycle.limits then count_starts(cycle.limits, queue, raws) end
  for at = 1, #raws do
    if ids[at] then mark_started(keys, ids[at], indexes[at], cycle.touched) end
  end
end

local function pop_raw(keys, cycle, queue, most)
  if most == 0 then return false end
  if cycle.limits and cycle.limits.of_actions then return pop_within_limits(keys, cycle, queue, most) end
  return redis.pcall('LPOP', keys.queue(queue), most)
end

-- Pops at most `most` jobs of a queue; how many there were, with dropped ones (none, too, if it is paused, if its key is no
-- list, or if the first one must wait for a limit).
local function pop_some(keys, cycle, queue, most)
  if cycle.paused and cycle.paused(queue) then return 0 end
  local places = places_of(cycle.limits, queue)
  if places <= 0 then return 0 end
  local wished = math.min(portion(cycle, most), places, room_of(keys, cycle, queue))
  local raws = pop_raw(keys, cycle, queue, wished)
  if not raws then
    cycle.emptied[queue] = cycle.took[queue] and wished > 0
    return 0
  end
  if raws.err then
    cycle.problems[#cycle.problems + 1] = keys.queue(queue)
    return 0
  end
  local wanted, ids, indexes, void = sifted(keys, raws)
  if cycle.wary then up_to_suspect(keys, cycle, queue, wanted) end
  if #wanted > 0 then fill(keys, cycle, queue, wanted, ids, indexes) end
  drop_all(keys, cycle, void)
  cycle.took[queue], cycle.emptied[queue] = true, #raws < wished
  return #raws
end

-- Tells all idle processes which queues have no jobs any more: they have heard of the last one too, and need not look for it.
-- With action limits or a suspect what is left in a queue is not known.
local function tell_emptied(keys, cycle)
  if cycle.suspect or cycle.limits and cycle.limits.of_actions then return end
  for queue, is_empty in pairs(cycle.emptied) do
    if is_empty then
      local key = keys.emptied(cycle.process .. ' ' .. queue)
      redis.call('SET', key, 1)
      redis.call('DEL', key) -- who listens is told of the write all the same
    end
  end
end
