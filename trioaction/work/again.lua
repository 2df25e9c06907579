-- The answer to an exchange that was done before, and whose reply was lost.

-- Its outcomes have been applied: what was wrong with them nobody knows any more.
local function no_codes(outcomes)
  local codes = {}
  for at = 1, outcomes do codes[at] = '' end
  return codes
end

-- What the free slots hold from the first time, in the order in which it was popped.
local function popped_before(cycle)
  local popped = cycle.popped
  for at = #cycle.free, 1, -1 do
    local entry = redis.call('HGET', cycle.inflight, cycle.free[at])
    if has_token(entry, cycle.sequence) then
      local _, queue, raw = inflight_parts(entry)
      popped[#popped + 1], popped[#popped + 2], popped[#popped + 3] = cycle.free[at], queue, raw
    end
  end
  return popped
end
