-- Reads delayed jobs, the first one due first: at most so many, or a little over 1 MiB, or those of 250 seconds.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the first second, how many of its jobs are passed over, the last second (or "+inf"), most jobs, the length
--   from which on a second is named and not read ("" for none).
-- Returns {second, index, groups, long, problems}: second and index are where to go on, both "" if there is no more; groups is
--   flat pairs of a second and its jobs, long are seconds; problems are texts.
-- Reads only; the same call again returns the same as long as nothing changes.
-- include: ../resque/keys.lua
local MAX_BYTES, MAX_SECONDS, MEMBERS, PIECE = 1048576, 250, 50, 256
local keys, first, last, most = keys_of(ARGV[1]), ARGV[2], ARGV[4], tonumber(ARGV[5])
local longest, groups, long, problems = tonumber(ARGV[6]), {}, {}, {}
local read = {jobs = 0, bytes = 0, seconds = 0, piece = 1}

local function is_full()
  return read.jobs >= most or read.bytes >= MAX_BYTES or read.seconds >= MAX_SECONDS
end

-- How many jobs to ask for next: few until it is known how large they are.
local function next_piece()
  local fit = read.jobs == 0 and 1 or math.ceil((MAX_BYTES - read.bytes) * read.jobs / math.max(1, read.bytes))
  read.piece = math.min(read.piece * 2, PIECE)
  return math.max(1, math.min(read.piece, most - read.jobs, fit))
end

-- Reads a list from an index on, as far as there is room; returns the index behind the last job that was read.
local function read_list(list, index, found)
  while not is_full() do
    local piece = next_piece()
    local raws = redis.pcall('LRANGE', list, index, index + piece - 1)
    if raws.err then
      problems[#problems + 1] = list .. ' is no list: nothing is read from it'
      break
    end
    for at, raw in ipairs(raws) do
      found[#found + 1], read.bytes = raw, read.bytes + #raw
    end
    read.jobs, index = read.jobs + #raws, index + #raws
    if #raws < piece then break end
  end
  return index
end

local function is_long(list)
  local length = longest and redis.pcall('LLEN', list)
  return type(length) == 'number' and length > longest
end

local function read_second(second, index)
  local list, found = keys.delayed(second), {}
  if is_long(list) then -- and counts for nothing: else the next page could begin with it, and name it again
    long[#long + 1] = second
    return index
  end
  read.seconds = read.seconds + 1
  index = read_list(list, index, found)
  if #found > 0 then groups[#groups + 1], groups[#groups + 2] = second, found end
  return index
end

-- Is it the name of a second as all schedulers write it?
local function is_second(member, score)
  return member == score and not string.find(member, '%D')
end

local second, index = first, tonumber(ARGV[3])
local rank = redis.call('ZCOUNT', keys.schedule, '-inf', '(' .. first)
while true do
  local members = redis.call('ZRANGE', keys.schedule, rank, rank + MEMBERS - 1, 'WITHSCORES')
  for at = 1, #members, 2 do
    local member, score = members[at], members[at + 1]
    if is_full() then return {second, index, groups, long, problems} end
    if last ~= '+inf' and tonumber(score) > tonumber(last) then return {'', '', groups, long, problems} end
    if is_second(member, score) then
      if member ~= second then second, index = member, 0 end
      index = read_second(member, index)
    else
      problems[#problems + 1] = keys.schedule .. ' has a member that is no second: ' .. string.sub(member, 1, 100)
      if score ~= second then second, index = score, 0 end
      if score ~= first then read.seconds = read.seconds + 1 end -- else the next page would begin where this one did
    end
  end
  if #members < 2 * MEMBERS then break end
  rank = rank + MEMBERS
end
if is_full() then return {second, index, groups, long, problems} end
return {'', '', groups, long, problems}
