-- Pops jobs as far as the limits of their actions have room.
-- include: rates.lua
-- include: ../fanout/void.lua

-- The elements up to the first job whose action may not start now. Children that nobody wants start nothing.
local function within_limits(keys, cycle, raws)
  local starts = {}
  for at, raw in ipairs(raws) do
    local limit = limit_of_raw(keys, cycle.limits, raw)
    local id = limit and child_of(raw)
    if limit and not (id and is_void(keys, id)) then
      starts[limit] = (starts[limit] or 0) + 1
      if starts[limit] > left_in(cycle, limit) then
        wait_for(cycle, limit)
        return at - 1
      end
    end
  end
  return #raws
end

-- Like LPOP, up to a job that must wait. It is left where it is: a write would wake the whole fleet to find it again.
local function pop_within_limits(keys, cycle, queue, most)
  local key = keys.queue(queue)
  local raws = redis.pcall('LRANGE', key, 0, most - 1)
  if raws.err then return raws end
  local count = within_limits(keys, cycle, raws)
  if count == 0 then return false end
  redis.call('LTRIM', key, count, -1)
  for at = #raws, count + 1, -1 do raws[at] = nil end
  return raws
end
