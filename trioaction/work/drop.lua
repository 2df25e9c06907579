-- Drops children that nobody wants any more, instead of giving them a slot. They have been counted when their fan-out was
-- cancelled.
-- include: ../fanout/void.lua
-- include: ../fanout/account.lua
local MAX_DROPPED = 1000 -- in one exchange, or it would hold Redis up

-- The elements that are wanted, lists of the fan-out (false for none) and the index of each, and those that are not wanted
-- as pairs of fan-out and index. Nothing is written: what was popped is kept first.
local function sifted(keys, raws)
  local wanted, ids, indexes, void = {}, {}, {}, {}
  for _, raw in ipairs(raws) do
    local id, index = child_of(raw)
    if id and is_void(keys, id) then
      void[#void + 1] = {id, index}
    else
      local at = #wanted + 1
      wanted[at], ids[at], indexes[at] = raw, id or false, index or 0
    end
  end
  return wanted, ids, indexes, void
end

local function drop_all(keys, cycle, void)
  for _, child in ipairs(void) do account(keys, child[1], child[2], 'cancelled', '', cycle.touched) end
  cycle.dropped, cycle.cancelled = cycle.dropped + #void, cycle.cancelled + #void
end
