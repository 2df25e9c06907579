-- Whether an equal job waits for its time: node-resque's DelayQueueLock, but asked of the lists themselves, since the sets that
-- tell of them may have members that are stale. One call looks at so much only; what it does not come to, the next one is asked.
local MOST_LOOKS = 100
local MOST_BYTES = 8 * 1024 * 1024 -- compared, if all elements begin alike: some ms
local FROM_EACH_END = 250 -- elements, or as many as these bytes; a longer list is not looked at whole, and its set is believed

-- What this call may look at still, and what it found stale.
local function looks_of()
  return {left = MOST_LOOKS, bytes = MOST_BYTES, stale = {}}
end

local function is_in(looks, list, raw)
  if not fits(list, 'list') then return false end
  local length, reach = redis.call('LLEN', list), math.min(FROM_EACH_END, math.max(1, math.floor(MOST_BYTES / 2 / #raw)))
  looks.bytes = looks.bytes - math.min(length, 2 * reach) * #raw
  if redis.call('LPOS', list, raw, 'MAXLEN', reach) then return true end
  if redis.call('LPOS', list, raw, 'RANK', -1, 'MAXLEN', reach) then return true end
  return length > 2 * reach
end

-- True or false; nil if this call may not look any more.
local function element_waits(keys, looks, raw)
  local timestamps = keys.timestamps(raw)
  for _, member in ipairs(redis.call('SRANDMEMBER', timestamps, MOST_LOOKS)) do
    if looks.left == 0 or looks.bytes <= 0 then return nil end
    looks.left = looks.left - 1
    local second = string.match(member, '^delayed:(.+)$')
    if second and is_in(looks, keys.delayed(second), raw) then return true end
    looks.stale[#looks.stale + 1] = {timestamps, member}
  end
  if redis.call('SCARD', timestamps) > MOST_LOOKS then return nil end
  return false
end

-- The element without the moment until when it may start, in which equal jobs differ.
local function bare_of(raw)
  local moment = moment_of(raw)
  return moment and string.sub(raw, 1, -#moment - #EXPIRES_AT - 2) .. '}' or raw
end

-- The equal elements that may wait: the one without a moment, and the one whose moment is noted.
local function equals_of(keys, job, raw)
  local bare = bare_of(raw)
  local noted = redis.call('GET', keys.waits(job))
  if not noted then return {bare} end
  return {bare, string.sub(bare, 1, -2) .. EXPIRES_AT .. noted .. '}'}
end

local function readable(keys, job, raw)
  if not fits(keys.waits(job), 'string') then return false end
  for _, element in ipairs(equals_of(keys, job, raw)) do
    if not fits(keys.timestamps(element), 'set') then return false end
  end
  return true
end

-- True or false; nil if this call may not look any more.
local function waits_for_its_time(keys, looks, job, raw)
  for _, element in ipairs(equals_of(keys, job, raw)) do
    local waits = element_waits(keys, looks, element)
    if waits ~= false then return waits end
  end
  return false
end

local function note_waiting(keys, job, raw, seconds)
  local moment = moment_of(raw)
  if moment then redis.call('SET', keys.waits(job), moment, 'EX', seconds) end
end

-- Behind what a full Redis refuses, which else would let all of it pass.
local function forget_stale(looks)
  for _, stale in ipairs(looks.stale) do redis.call('SREM', stale[1], stale[2]) end
end
