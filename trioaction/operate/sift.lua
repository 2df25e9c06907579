-- Deals with the next entries of a list that was set aside: they stay in the list, or are taken and done with.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, name of the list (its key without the namespace), token, lease in ms, what becomes of those that are taken
--   (see taken.lua), how many are still aside; "tail" if the entries are its last ones, the very last first, and those that
--   stay go back to the list, or "head" if they are its first ones, and those that stay are kept until bring_back(); a letter
--   for each, "t" if it is taken, "s" if it stays; then the words of each that is taken.
-- Returns {"lost"} if others have put back what was set aside (nothing is written), {"wrongtype"} if the list's key is none,
--   else {"ok", still aside, taken so far, not taken so far since their queue's key is no list}.
-- Idempotent: if other than so many are still aside this call has been made before, and nothing is written.
-- include: ../resque/keys.lua
-- include: ../resque/aside.lua
-- include: taken.lua
local keys, name, lease, what, letters = keys_of(ARGV[1]), ARGV[2], ARGV[4], ARGV[5], ARGV[8]
local list, aside, sieve = ARGV[1] .. ':' .. name, keys.aside(name), keys.sieve(name)
local token, taken, unfit = unpack(redis.call('HMGET', sieve, 'token', 'taken', 'unfit'))
if token ~= ARGV[3] then return {'lost'} end
if not fits(list, 'list') then return {'wrongtype'} end
-- The first write, and one that a full Redis lets pass: so do then all that follow.
redis.call('PEXPIRE', sieve, lease)
local left = redis.call('LLEN', aside)
if left ~= tonumber(ARGV[6]) then return {'ok', left, tonumber(taken), tonumber(unfit)} end

local pop, push, to = 'RPOP', 'LPUSH', list
if ARGV[7] == 'head' then pop, push, to = 'LPOP', 'RPUSH', keys.kept(name) end
local work, at, now_taken, now_unfit = work_on(name), 9, 0, 0

local function deal_with(raw)
  local words = {unpack(ARGV, at, at + WORDS[what] - 1)}
  at = at + WORDS[what]
  if not may_end(keys, what, words) then
    now_unfit = now_unfit + 1
    return false
  end
  ENDS[what](keys, work, raw, words)
  now_taken = now_taken + 1
  return true
end

for first = 1, #letters, AT_ONCE do
  local stay = {}
  for number, raw in ipairs(redis.call(pop, aside, math.min(AT_ONCE, #letters + 1 - first)) or {}) do
    local place = first + number - 1
    if string.sub(letters, place, place) == 's' or not deal_with(raw) then stay[#stay + 1] = raw end
  end
  if #stay > 0 then redis.call(push, to, unpack(stay)) end
end
announce(keys, name, list)
tell_of(keys, work)
taken, unfit = redis.call('HINCRBY', sieve, 'taken', now_taken), redis.call('HINCRBY', sieve, 'unfit', now_unfit)
return {'ok', redis.call('LLEN', aside), taken, unfit}
