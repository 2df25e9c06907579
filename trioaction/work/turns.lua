-- Which queue comes next.

-- Where the turn of "*" goes on: behind the queue that had the last one. Queues come and go, so it is known by name.
local function turn_after(queues, last)
  for at, queue in ipairs(queues) do
    if queue > last then return at end
  end
  return 1
end

-- A few jobs from each queue in turn, from where the last cycle ended, until all are empty or no slot is free.
local function pop_fairly(keys, cycle, queues)
  local at = turn_after(queues, cycle.last_queue)
  while #queues > 0 and not full(cycle) do
    local queue = queues[at]
    if pop_some(keys, cycle, queue, math.ceil(#cycle.free / #queues)) > 0 then
      cycle.last_queue = queue
      at = at + 1
    else
      table.remove(queues, at)
    end
    if at > #queues then at = 1 end
  end
end

local function pop_all(keys, cycle, queues)
  for _, queue in ipairs(queues) do
    if queue == '*' then
      pop_fairly(keys, cycle, other_queues(keys, queues, cycle.problems))
    else
      while not full(cycle) and pop_some(keys, cycle, queue, #cycle.free) > 0 do end
    end
  end
end
