-- Jobs that ran when their process was lost. keys.deaths: the SHA-1 of an element -> "<deaths beside others> <deaths alone>",
-- and behind that how often a process came back that had been taken for dead.
local REMEMBERED = 3600000 -- ms since the last death, or since a suspect was taken
local MOST_RETURNS = 10 -- a job that is always there may be what keeps its process from being heard of

-- How often beside others, how often alone, and the returns; 0 if the key is no hash of ours.
local function deaths_by_sha(keys, sha)
  local known = redis.pcall('HGET', keys.deaths, sha)
  local beside, alone, returns = string.match(type(known) == 'string' and known or '', '^(%d+) (%d+) ?(%d*)$')
  return tonumber(beside or 0), tonumber(alone or 0), tonumber(returns) or 0
end

local function deaths_of(keys, raw)
  return deaths_by_sha(keys, redis.sha1hex(raw))
end

-- Is it written? It is not where the key has become something else.
local function write_deaths(keys, sha, beside, alone, returns)
  local text = beside .. ' ' .. alone .. (returns > 0 and ' ' .. returns or '')
  return type(redis.pcall('HSET', keys.deaths, sha, text)) == 'number'
end

-- The job has ended, so it does not kill.
local function forget_deaths(keys, raw)
  redis.pcall('HDEL', keys.deaths, redis.sha1hex(raw))
end

-- This process lives, though it was taken for dead: what was noted then was no death. Of a job that has ended since,
-- nothing is known any more.
local function take_back(keys, process)
  local blamed = redis.pcall('HGETALL', keys.blamed(process))
  for at = 1, #blamed, 2 do
    local beside, alone, returns = deaths_by_sha(keys, blamed[at])
    if beside + alone > 0 and returns < MOST_RETURNS then
      if blamed[at + 1] == 'alone' then alone = math.max(alone - 1, 0) else beside = math.max(beside - 1, 0) end
      write_deaths(keys, blamed[at], beside, alone, returns + 1)
    end
  end
  redis.call('DEL', keys.blamed(process))
end
