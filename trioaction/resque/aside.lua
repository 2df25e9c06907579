-- What was taken out of a long list to be looked at goes back to its head, the last one first: so it stands there again as
-- it stood before, and what has come meanwhile is behind it.
-- include: types.lua
local AT_ONCE = 64 -- moved by one command: that is much cheaper than one by one
local MAX_BACK, MAX_BACK_BYTES = 1024, 1048576 -- in one call, about, or it would hold Redis up

-- A queue that was empty for a while may have been taken for one that is not needed any more.
local function announce(keys, name, list)
  local queue = string.match(name, '^queue:(.+)$')
  if queue and redis.call('EXISTS', list) == 1 then redis.pcall('SADD', keys.queues, queue) end
end

-- Some from the tail of `from`; how many, and their bytes.
local function move_back(from, list)
  local raws, bytes = redis.call('RPOP', from, AT_ONCE), 0
  if not raws then return 0, 0 end
  for _, raw in ipairs(raws) do bytes = bytes + #raw end
  redis.call('LPUSH', list, unpack(raws))
  return #raws, bytes
end

-- Returns how many are left, or nil if the list is none: then nothing is written.
local function bring_back(keys, name, list)
  if not fits(list, 'list') then return nil end
  local moved, bytes = 0, 0
  for _, from in ipairs({keys.aside(name), keys.kept(name)}) do
    local count, size
    repeat
      count, size = move_back(from, list)
      moved, bytes = moved + count, bytes + size
    until count < AT_ONCE or moved >= MAX_BACK or bytes >= MAX_BACK_BYTES
    if count == AT_ONCE then break end
  end
  if moved > 0 then announce(keys, name, list) end
  local left = redis.call('LLEN', keys.aside(name)) + redis.call('LLEN', keys.kept(name))
  if left == 0 then
    redis.call('DEL', keys.sieve(name))
    redis.call('SREM', keys.sieves, name)
  end
  return left
end
