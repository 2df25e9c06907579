-- What is left of a process whose record somebody deleted by hand: its jobs must not stay in flight for ever.

-- Its slots and queues, as far as they can be told by its workers; nil if nothing is left of it.
local function traces(keys, process)
  local slots, queues = nil, ''
  local workers = redis.pcall('SMEMBERS', keys.workers)
  for _, worker in ipairs(workers.err and {} or workers) do
    if string.sub(worker, 1, #process + 1) == process .. '-' then
      local slot, rest = string.match(worker, '^(%d+):(.*)$', #process + 2)
      if slot then slots, queues = math.max(slots or 0, tonumber(slot)), rest end
    end
  end
  return slots or redis.call('EXISTS', keys.inflight(process), keys.owned(process)) > 0 and 0 or nil, queues
end
