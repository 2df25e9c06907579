-- Queues from which nobody takes jobs for now: operators have paused them, or all, as Ruby Resque does.

-- A function that tells whether a queue is paused; false if none is.
local function paused_queues(keys, problems)
  if redis.call('EXISTS', keys.paused, keys.pause_all) == 0 then return false end
  if redis.pcall('GET', keys.pause_all) == 'true' then return function() return true end end
  local names, paused = redis.pcall('SMEMBERS', keys.paused), {}
  if names.err then
    problems[#problems + 1] = keys.paused
    return false
  end
  for _, name in ipairs(names) do paused[name] = true end
  return function(queue) return paused[queue] end
end
