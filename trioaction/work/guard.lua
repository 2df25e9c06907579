-- The next run of a recurring action may start when this one has ended for good; or in `delay` ms more, if it goes on later.
local function guard_until(keys, action, job_id, delay)
  local guard = redis.pcall('GET', keys.guard(action))
  local id, ttl = string.match(type(guard) == 'string' and guard or '', '^(%S+) (%d+)$')
  if id ~= job_id then return end
  if delay then redis.call('PEXPIRE', keys.guard(action), ttl + delay) else redis.call('DEL', keys.guard(action)) end
end
