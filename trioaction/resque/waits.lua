-- Whether an equal job waits for its time: node-resque's DelayQueueLock, but asked of the lists themselves, since the sets that tell
-- of them may have members that are stale. `looks` is what one call has looked at, and found stale.
local MOST_LOOKS = 100 -- in one call
local FROM_EACH_END = 250 -- elements; a longer list is not looked at whole, and its set is believed

local function is_in(list, raw)
  if not fits(list, 'list') then return false end
  if redis.call('LPOS', list, raw, 'MAXLEN', FROM_EACH_END) then return true end
  if redis.call('LPOS', list, raw, 'RANK', -1, 'MAXLEN', FROM_EACH_END) then return true end
  return redis.call('LLEN', list) > 2 * FROM_EACH_END
end

local function element_waits(keys, looks, raw)
  local timestamps = keys.timestamps(raw)
  for _, member in ipairs(redis.call('SRANDMEMBER', timestamps, MOST_LOOKS)) do
    if looks.count >= MOST_LOOKS then return true end
    looks.count = looks.count + 1
    local second = string.match(member, '^delayed:(.+)$')
    if second and is_in(keys.delayed(second), raw) then return true end
    looks.stale[#looks.stale + 1] = {timestamps, member}
  end
  return redis.call('SCARD', timestamps) > MOST_LOOKS -- there are more, all stale so far: the next call looks at them
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

local function waits_for_its_time(keys, looks, job, raw)
  for _, element in ipairs(equals_of(keys, job, raw)) do
    if element_waits(keys, looks, element) then return true end
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
