-- A job that somebody deletes: if it is a child of a fan-out, it has ended with that.
-- include: ../fanout/identity.lua
-- include: ../fanout/account.lua

-- Counts it as cancelled, or its fan-out would never finish. `touched` is for touch_all() and tell_all().
local function drop_child(keys, raw, touched)
  local id, index = child_of(raw)
  if not id then return end
  account(keys, id, index, 'cancelled', '', touched)
  redis.pcall('INCR', keys.stat('cancelled')) -- another's key of another type must not stop the rest
end
