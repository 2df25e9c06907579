-- What becomes of an entry that is taken out of a list, in the same script: so nothing is lost, and nothing counted twice.
-- include: ../resque/types.lua
-- include: ../resque/push_one.lua
-- include: ../resque/action_of.lua
-- include: ../resque/args_of.lua
-- include: ../fanout/identity.lua
-- include: ../fanout/account.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: ../work/guard.lua
local ENDS = {} -- by what is to be done: gets the entry and its words
local WORDS = {forget = 0, retry = 2, delete = 0} -- how many

-- A failed job that nobody keeps.
function ENDS.forget() end

-- A failed job that is tried again: its queue and its payload.
function ENDS.retry(keys, _, _, words)
  push_one(keys, words[1], words[2], 'RPUSH')
end

local function drop_child(keys, work, raw)
  local id, index = child_of(raw)
  if not id then return end
  account(keys, id, index, 'cancelled', '', work.touched)
  work.cancelled = work.cancelled + 1
end

-- Where a job waits it may keep equal ones out, and it may be the run of a recurring action, which keeps out the next one.
local function free_place_of(keys, name, raw)
  local action, queue, args = action_of(raw), string.match(name, '^queue:(.+)$'), args_of(raw)
  if not action then return end
  local job = queue and args and action .. ':' .. queue .. ':' .. args
  if job then redis.call('DEL', keys.queue_lock(job), keys.owner('lock:' .. job)) end
  local id = string.match(raw, '"_jobId":"([^"\\]+)"')
  local schedule = id and string.match(id, '^(.+)%.%x+$') -- of one that has a name
  if id then guard_until(keys, schedule and action .. '#' .. schedule or action, id) end
end

-- A job that is deleted from its queue.
function ENDS.delete(keys, work, raw)
  drop_child(keys, work, raw)
  free_place_of(keys, work.name, raw)
end

-- A failed job whose queue could not take it stays where it is.
local function may_end(keys, what, words)
  return what ~= 'retry' or fits(keys.queue(words[1]), 'list')
end

local function work_on(name)
  return {name = name, touched = {}, cancelled = 0}
end

-- What the ends have done elsewhere becomes known.
local function tell_of(keys, work)
  if work.cancelled > 0 then redis.pcall('INCRBY', keys.stat('cancelled'), work.cancelled) end
  touch_all(keys, work.touched)
  tell_all(keys, work.touched)
end
