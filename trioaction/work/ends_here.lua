-- Children that nobody wants any more do not run: they have ended with their fan-out.
-- include: ../fanout/void.lua
-- include: ../fanout/account.lua

-- Is it one of them? Then it is counted, if it was not before. `touched` is for touch_all() and tell_all().
local function ends_here(keys, id, index, touched)
  if not is_void(keys, id) then return false end
  account(keys, id, index, 'cancelled', '', touched)
  redis.pcall('INCR', keys.stat('cancelled'))
  return true
end
