-- Jobs whose process died while they ran: keys.deaths, the SHA-1 of an element -> "<deaths beside others> <deaths alone>".
-- A suspect died alone, or twice beside others: one death may be the machine's.
local REMEMBERED = 3600000 -- ms since the last death, or since a suspect was taken

-- How often beside others, how often alone; 0 if the key is no hash of ours.
local function deaths_of(keys, raw)
  local known = redis.pcall('HGET', keys.deaths, redis.sha1hex(raw))
  local beside, alone = string.match(type(known) == 'string' and known or '', '^(%d+) (%d+)$')
  return tonumber(beside or 0), tonumber(alone or 0)
end

local function is_suspect(beside, alone)
  return alone > 0 or beside > 1
end

-- Notes one death; true if it makes a suspect of the job. `before` is how many alone its process knew of.
local function note_death(keys, raw, is_alone, before)
  local beside, alone = deaths_of(keys, raw)
  local was = is_suspect(beside, alone)
  if is_alone then alone = math.max(alone, before) + 1 else beside = beside + 1 end
  local noted = redis.pcall('HSET', keys.deaths, redis.sha1hex(raw), beside .. ' ' .. alone)
  if type(noted) == 'table' then return false end
  redis.call('PEXPIRE', keys.deaths, REMEMBERED)
  return not was and is_suspect(beside, alone)
end

-- The job has ended, so it does not kill.
local function forget_deaths(keys, raw)
  redis.pcall('HDEL', keys.deaths, redis.sha1hex(raw))
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

-- A process with the field `suspect` in its record died with these jobs. Equal ones count once: they share what is known.
-- Returns how many became suspects.
local function note_deaths(keys, jobs, suspect)
  local noted, suspected = {}, 0
  for _, job in ipairs(jobs) do
    local before = suspect_of(suspect, tostring(job.token)) or 0
    if not noted[job.raw] and note_death(keys, job.raw, #jobs == 1, before) then suspected = suspected + 1 end
    noted[job.raw] = true
  end
  return suspected
end
