-- Takes single entries out of a list where they are; the order of the others does not change.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, name of the list (its key without the namespace), 1 to look from the head or -1 from the tail, first and last
--   index between which they are, or two empty words if they may be anywhere, what becomes of those that are taken (see
--   taken.lua); then each entry, as it was read, and its words.
-- Returns {"wrongtype"} if the list's key is none, else {"ok", what was done with each, 1 if entries of the list are set aside,
--   so that one that was not there may be among them}: 1 if it was taken, 0 if it was not there, 2 if its queue's key is no list.
-- Idempotent as far as no two entries are equal: one that is gone is not taken again.
-- include: ../resque/keys.lua
-- include: taken.lua
local keys, name, direction, what = keys_of(ARGV[1]), ARGV[2], ARGV[3], ARGV[6]
local list, ends, step = ARGV[1] .. ':' .. name, ENDS[what], WORDS[what] + 1
if not fits(list, 'list') then return {'wrongtype'} end
-- The first write, and one that a full Redis lets pass: so do then all that follow.
redis.call('PERSIST', keys.sieves)

-- How often each is there. Who looks for one that is not there looks through the whole list.
local there = {}
if ARGV[4] ~= '' then
  for _, raw in ipairs(redis.call('LRANGE', list, ARGV[4], ARGV[5])) do there[raw] = (there[raw] or 0) + 1 end
end

local function take(raw, words, work)
  if ARGV[4] ~= '' and (there[raw] or 0) == 0 then return 0 end
  if not may_end(keys, what, words) then return 2 end
  if redis.call('LREM', list, direction, raw) == 0 then return 0 end
  there[raw] = (there[raw] or 1) - 1
  ends(keys, work, raw, words)
  return 1
end

local work, done = work_on(name), {}
for at = 7, #ARGV, step do done[#done + 1] = take(ARGV[at], {unpack(ARGV, at + 1, at + step - 1)}, work) end
tell_of(keys, work)
return {'ok', done, redis.call('EXISTS', keys.aside(name), keys.kept(name)) > 0 and 1 or 0}
