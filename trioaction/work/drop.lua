-- Drops children that nobody wants any more, instead of giving them a slot. They have been counted when their fan-out was
-- cancelled.
-- include: ../fanout/void.lua
-- include: ../fanout/account.lua
local MAX_DROPPED = 1000 -- in one exchange, or it would hold Redis up

-- The elements that are wanted, and lists of the fan-out (false for none) and the index of each.
local function drop_void(keys, cycle, raws)
  local wanted, ids, indexes = {}, {}, {}
  for _, raw in ipairs(raws) do
    local id, index = child_of(raw)
    if id and is_void(keys, id) then
      account(keys, id, index, 'cancelled', '', cycle.touched)
      cycle.dropped, cycle.cancelled = cycle.dropped + 1, cycle.cancelled + 1
    else
      local at = #wanted + 1
      wanted[at], ids[at], indexes[at] = raw, id or false, index or 0
    end
  end
  return wanted, ids, indexes
end
