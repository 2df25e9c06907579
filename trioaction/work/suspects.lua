-- A suspect is a job that may have killed its process: it was lost alone, or twice beside others, since one death may be the
-- machine's. It runs alone.
-- include: deaths.lua
local function is_suspect(beside, alone)
  return alone > 0 or beside > 1
end

-- Notes one death; true if it makes a suspect of the job. `before` is how many alone its process knew of.
local function note_death(keys, process, raw, is_alone, before)
  local sha = redis.sha1hex(raw)
  local beside, alone, returns = deaths_by_sha(keys, sha)
  local was = is_suspect(beside, alone)
  if is_alone then alone = math.max(alone, before) + 1 else beside = beside + 1 end
  if not write_deaths(keys, sha, beside, alone, returns) then return false end
  redis.call('PEXPIRE', keys.deaths, REMEMBERED)
  if type(redis.pcall('HSET', keys.blamed(process), sha, is_alone and 'alone' or 'beside')) == 'number' then
    redis.call('PEXPIRE', keys.blamed(process), REMEMBERED)
  end
  return not was and is_suspect(beside, alone)
end

-- The elements up to the first suspect, after which nothing may be popped; the others go back to the head of their queue.
local function up_to_suspect(keys, cycle, queue, raws)
  for at, raw in ipairs(raws) do
    local beside, alone = deaths_of(keys, raw)
    if is_suspect(beside, alone) then
      cycle.suspect = alone
      redis.call('PEXPIRE', keys.deaths, REMEMBERED)
      for _ = at + 1, #raws do redis.call('LPUSH', keys.queue(queue), table.remove(raws)) end
      return
    end
  end
end

-- A process takes a suspect with this exchange. Its record has it: for the same exchange sent again, and for the suspect's
-- next death, since it may run for longer than deaths are remembered.
local function hold_suspect(keys, process, sequence, alone)
  redis.call('HSET', keys.process(process), 'suspect', sequence .. ' ' .. alone)
end

-- How many deaths alone the suspect had that the exchange of this sequence took; nil if it took none.
local function suspect_of(record, sequence)
  local at, alone = string.match(record or '', '^(%d+) (%d+)$')
  return at == sequence and tonumber(alone) or nil
end

-- A process with the field `suspect` in its record was lost with these jobs. Equal ones count once: they share what is known.
-- Those that were parked did nothing. Returns the actions of those that became suspects.
local function note_deaths(keys, process, jobs, suspect)
  local noted, suspected, ran = {}, {}, {}
  for _, job in ipairs(jobs) do
    if not job.parked then ran[#ran + 1] = job end
  end
  for _, job in ipairs(ran) do
    local before = suspect_of(suspect, tostring(job.token)) or 0
    if not noted[job.raw] and note_death(keys, process, job.raw, #ran == 1, before) then
      suspected[#suspected + 1] = string.match(job.raw, '"class":"([^"\\]*)"') or '?'
    end
    noted[job.raw] = true
  end
  return suspected
end
