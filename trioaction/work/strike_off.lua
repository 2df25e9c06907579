-- Removes a process that has no jobs any more: its workers with their records, pings and counters, its leaderships, its record.
local function strike_off(keys, process, slots, queues)
  for slot = 1, slots do
    local worker = process .. '-' .. slot
    redis.pcall('SREM', keys.workers, worker .. ':' .. queues) -- another's key in its place must not stop the rest
    redis.call('DEL', keys.working_on(worker, queues), keys.started(worker, queues), keys.ping(worker),
      keys.stat('processed', worker), keys.stat('failed', worker))
  end
  for _, leader in ipairs({keys.leader, keys.resque_leader}) do
    if redis.pcall('GET', leader) == process then redis.call('DEL', leader) end
  end
  redis.call('DEL', keys.process(process), keys.inflight(process), keys.owned(process), keys.lease(process),
    keys.locks_of(process))
  redis.pcall('SREM', keys.processes, process)
end
