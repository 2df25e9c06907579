-- Reads the next entries of a list: so many, or about 1 MiB of them, or one.
--
-- KEYS: none.
-- ARGV: key of the list, the first index (below 0 from the tail), how many at most, "on" towards the tail or "back" towards the
--   head; then, to go on behind others, how many of those that were read stand in front of the first one, and the SHA-1 of
--   these, joined.
-- Returns the entries in the order in which they were read, fewer in the middle of a very long list when it goes on behind
--   others; nil if those in front are others now, since the list has moved; or the error WRONGTYPE that names the key. Writes
--   nothing.
-- Idempotent.
-- include: ../resque/types.lua
local MAX_BYTES = 1048576
local DEEP = 50000 -- entries from both ends: to find the place takes Redis as long as to read it, or longer
local list, first, wanted, backwards = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == 'back'
local before = tonumber(ARGV[5])
if not fits(list, 'list') then return redis.error_reply('WRONGTYPE ' .. list .. ' is no list') end

local raws, bytes = {}, 0

-- Entries `from` to `to`, counted from the first one in the direction of reading.
local function range(from, to)
  if not backwards then return redis.call('LRANGE', list, first + from, first + to) end
  if first >= 0 and first < from then return {} end
  local head = first >= 0 and math.max(0, first - to) or first - to
  local some, turned = redis.call('LRANGE', list, head, first - from), {}
  for number = 1, #some do turned[number] = some[#some + 1 - number] end
  return turned
end

-- Adds them; were there so many?
local function add(some, skipped, count)
  for number = skipped + 1, #some do
    raws[#raws + 1], bytes = some[number], bytes + #some[number]
  end
  return #some - skipped == count
end

-- In two steps, since nobody knows how large the next ones are; in one, if that is enough, where it is far to the place.
local half = math.ceil(wanted / 2)
local some = range(-before, half - 1)
if before > 0 and redis.sha1hex(table.concat(some, '', 1, math.min(before, #some))) ~= ARGV[6] then return nil end
local is_deep = before > 0 and math.min(first, redis.call('LLEN', list) - first) > DEEP
if add(some, before, half) and bytes < MAX_BYTES and wanted > half and not is_deep then
  local fit = math.floor((MAX_BYTES - bytes) * half / math.max(1, bytes)) + 1
  local more = math.min(wanted - half, fit)
  add(range(half, half + more - 1), 0, more)
end
return raws
