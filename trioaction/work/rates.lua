-- Rate limits over the whole fleet: how many jobs of a queue, or of an action, may start in any window of some ms. And how
-- many of a queue this process has room for.
-- include: ../resque/action_of.lua
-- include: starts.lua

-- `count` limits as four words each: "queue" or "action", its name, starts, ms; or "room", a queue, jobs, 0. False for none.
-- They may be many, of which an exchange meets few: the others are only known by where they are.
local function limits_from(words, first, count)
  if count == 0 then return false end
  local limits = {queue = {}, action = {}, room = {}, of_raw = {}, met = {}, words = words}
  for at = first, first + 4 * (count - 1), 4 do limits[words[at]][words[at + 1]] = at end
  limits.of_actions = next(limits.action) ~= nil
  return limits
end

local function limit_of(keys, limits, kind, name)
  local limit = limits[kind][name]
  if type(limit) ~= 'number' then return limit end
  local words = limits.words
  limit = {key = keys.rate(kind, name), most = tonumber(words[limit + 2]), window = tonumber(words[limit + 3]), taken = 0}
  limits[kind][name], limits.met[#limits.met + 1] = limit, limit
  return limit
end

-- That of the action which an element names, or false.
local function limit_of_raw(keys, limits, raw)
  local limit = limits.of_raw[raw]
  if limit == nil then
    limit = limit_of(keys, limits, 'action', action_of(raw) or '') or false
    limits.of_raw[raw] = limit
  end
  return limit
end

-- A limit has no room left, and work waits: notes in how many ms it has room again, if no other one has sooner.
local function wait_for(cycle, limit)
  local over = limit.held + limit.taken - limit.most -- so many starts, and one more, have to leave the window
  local leaves = over < limit.held and tonumber(redis.call('LINDEX', limit.key, over)) or cycle.now
  local wait = math.max(leaves + limit.window + 1 - cycle.now, 1)
  cycle.wait = math.min(cycle.wait or wait, wait)
end

-- How many jobs of a queue this process has room for.
local function places_of(limits, queue)
  local at = limits and limits.room[queue]
  return at and tonumber(limits.words[at + 2]) or math.huge
end

-- How many jobs of a queue may start now, as far as its rate goes.
local function room_of(keys, cycle, queue)
  local limit = cycle.limits and limit_of(keys, cycle.limits, 'queue', queue)
  if not limit then return math.huge end
  local left = left_in(cycle, limit)
  if left == 0 and redis.call('EXISTS', keys.queue(queue)) == 1 then wait_for(cycle, limit) end
  return left
end

local function count_start(limit, count)
  if limit then limit.left, limit.taken = limit.left - count, limit.taken + count end
end

-- These jobs of a queue have got slots.
local function count_starts(limits, queue, raws)
  local room = limits.room[queue]
  if room then limits.words[room + 2] = tonumber(limits.words[room + 2]) - #raws end
  count_start(limits.queue[queue], #raws)
  if not limits.of_actions then return end
  for _, raw in ipairs(raws) do count_start(limits.of_raw[raw], 1) end
end
