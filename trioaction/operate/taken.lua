-- What becomes of an entry that is taken out of a list, in the same script: so nothing is lost, and nothing counted twice.
-- include: ../resque/types.lua
-- include: ../resque/push_one.lua
-- include: ../resque/action_of.lua
-- include: ../resque/args_of.lua
-- include: ../resque/queue_lock.lua
-- include: ../fanout/touch.lua
-- include: ../fanout/news.lua
-- include: ../work/guard.lua
-- include: drop_child.lua
local ENDS = {} -- by what is to be done: gets the entry and its words
local WORDS = {forget = 0, retry = 3, delete = 0, delete_waiting = 0} -- how many

-- A failed job that nobody keeps.
function ENDS.forget() end

-- Does a fan-out wait for the end of a job? Only of one that others have put into the failed list.
local function is_awaited(keys, raw)
  local id, index = child_of(raw)
  local record = id and record_of(keys, id)
  if not record or record.code or index >= record.hwm then return false end
  return redis.call('GETBIT', record.at .. ':done', index) == 0
end

-- A failed job that is tried again: its queue and its payload; and if that is the child of a fan-out, the payload as nobody's.
function ENDS.retry(keys, _, _, words)
  local queue, raw, bare = unpack(words)
  if bare ~= '' and not is_awaited(keys, raw) then raw = bare end
  push_one(keys, queue, raw, 'RPUSH')
end

-- Where a job waits it may keep equal ones out, and it may be the run of a recurring action, which keeps out the next one.
local function free_place_of(keys, name, raw)
  local action, queue, args = action_of(raw), string.match(name, '^queue:(.+)$'), args_of(raw)
  if not action then return end
  local job = queue and args and action .. ':' .. queue .. ':' .. args
  if job then free_queue_lock(keys, job, raw) end
  local id = string.match(raw, '"_jobId":"([^"\\]+)"')
  local schedule = id and string.match(id, '^(.+)%.%x+$') -- of one that has a name
  if id then guard_until(keys, schedule and action .. '#' .. schedule or action, id) end
end

-- A job that is deleted from its queue.
function ENDS.delete(keys, work, raw)
  drop_child(keys, raw, work.touched)
  free_place_of(keys, work.name, raw)
end

-- A job that is deleted from those that wait for a lock: an entry as begin.lua writes it. The lock may have no others then.
function ENDS.delete_waiting(keys, work, entry)
  local size, from = string.match(entry, '^(%d+) ()')
  local queue, raw = string.sub(entry, from, from + size - 1), string.sub(entry, from + size)
  drop_child(keys, raw, work.touched)
  free_place_of(keys, 'queue:' .. queue, raw)
  local lock = string.match(work.name, '^trioaction:waiting:(.*)$')
  if redis.call('EXISTS', keys.waiting(lock)) == 0 then redis.pcall('ZREM', keys.blocked, lock) end
end

-- A failed job whose queue could not take it stays where it is.
local function may_end(keys, what, words)
  return what ~= 'retry' or fits(keys.queue(words[1]), 'list')
end

local function work_on(name)
  return {name = name, touched = {}}
end

-- What the ends have done elsewhere becomes known.
local function tell_of(keys, work)
  touch_all(keys, work.touched)
  tell_all(keys, work.touched)
end
