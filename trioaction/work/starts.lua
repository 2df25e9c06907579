-- The starts within the window of a limit: a list of the times in ms by Redis's own clock, the oldest first. It is read when it
-- is first asked for, and written once, in the end.
local CHUNK_OF_TIMES = 1000
local SPARE = 1000 -- ms that a list outlives its window, since a script may take some

local function push_times(key, time, count)
  for from = 1, count, CHUNK_OF_TIMES do
    local times = {}
    for at = 1, math.min(CHUNK_OF_TIMES, count - from + 1) do times[at] = time end
    redis.call('RPUSH', key, unpack(times))
  end
end

-- If the clock was put back, what started in its future counts as started now: it holds nothing up for longer than a window.
local function pull_back(key, now, window)
  local later, moved = tonumber(redis.call('LINDEX', key, -1) or 0) or 0, 0
  while later > now do
    local times, at = redis.call('RPOP', key, CHUNK_OF_TIMES), 1
    while times[at] and (tonumber(times[at]) or 0) > now do at = at + 1 end
    moved = moved + at - 1
    for back = #times, at, -1 do redis.call('RPUSH', key, times[back]) end
    later = tonumber(redis.call('LINDEX', key, -1) or 0) or 0
  end
  if moved == 0 then return end
  push_times(key, string.format('%.0f', now), moved)
  redis.call('PEXPIRE', key, window + SPARE) -- all may have been taken out, and that with it
end

-- Takes at most `most` of the oldest times away that have left the window; returns how many. A text that is no time goes too.
local function forget_times(limit, now, most)
  local times, gone = redis.call('LRANGE', limit.key, 0, math.min(most, CHUNK_OF_TIMES) - 1), 0
  while times[gone + 1] and not ((tonumber(times[gone + 1]) or 0) + limit.window >= now) do gone = gone + 1 end
  if gone > 0 then redis.call('LPOP', limit.key, gone) end
  return gone
end

-- How many more may start within a limit. Old times are taken away only if they are in the way of the free slots, so an
-- exchange costs a few commands for each limit that it meets, whatever the size of the window.
local function left_in(cycle, limit)
  if limit.left then return limit.left end
  if not cycle.now then
    local time = redis.call('TIME')
    cycle.now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  local held = redis.pcall('LLEN', limit.key)
  if type(held) == 'table' then
    cycle.problems[#cycle.problems + 1] = limit.key
    limit.left, limit.window = math.huge, nil
    return limit.left
  end
  if held > 0 then pull_back(limit.key, cycle.now, limit.window) end
  local excess = held + #cycle.free - limit.most
  if excess > 0 and held > 0 then held = held - forget_times(limit, cycle.now, excess) end
  limit.held, limit.left = held, math.max(limit.most - held, 0)
  return limit.left
end

-- Writes what has started. Its last start has left the window when a list expires.
local function keep_starts(cycle)
  for _, limit in ipairs(cycle.limits and cycle.limits.met or {}) do
    if limit.taken > 0 and limit.window then
      push_times(limit.key, string.format('%.0f', cycle.now), limit.taken)
      redis.call('PEXPIRE', limit.key, limit.window + SPARE)
    end
  end
end
