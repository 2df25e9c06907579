-- Finishes jobs with everything that their end means, so that no effect can be lost on its own. Slots that end are
-- noted in `cycle.ended`; free_slots() clears those that got no new job in the same cycle.
-- Each outcome is eight words: slot, token, failed entry ("" if the job succeeded), fan-out id ("" if it is no child),
-- child index, child entry, recurring action ("" if it is no firing), job id.
local FINISH_WORDS = 8

local function keep_failure(keys, cycle, failure)
  cycle.failed = cycle.failed + 1
  if type(redis.pcall('RPUSH', keys.failed, failure)) == 'number' then return end
  redis.call('RPUSH', keys.stranded_failures, failure)
  cycle.problems[#cycle.problems + 1] = keys.failed
end

-- Returns why the outcome at `from` is not applied in full: "unknown" (the slot does not hold this job), or the code of
-- account() if its fan-out does not count it; else "".
local function finish(keys, cycle, words, from, entry)
  local slot, token, failure, child = words[from], words[from + 1], words[from + 2], words[from + 3]
  if cycle.ended[slot] or not has_token(entry, token) then return 'unknown' end
  cycle.ended[slot] = true
  if failure == '' then cycle.processed = cycle.processed + 1 else keep_failure(keys, cycle, failure) end
  local action, job_id = words[from + 6], words[from + 7]
  if action ~= '' and redis.pcall('GET', keys.guard(action)) == job_id then
    redis.call('DEL', keys.guard(action))
  end
  if child == '' then return '' end
  local code = account(keys, child, words[from + 4], failure == '', words[from + 5], cycle.touched)
  return code == 'counted' and '' or code
end

-- All outcomes, of which the first word is `words[first]`; returns one code for each.
local function finish_all(keys, cycle, words, first, count)
  if count == 0 then return {} end
  local slots, codes = {}, {}
  for at = 1, count do slots[at] = words[first + (at - 1) * FINISH_WORDS] end
  local entries = redis.call('HMGET', cycle.inflight, unpack(slots))
  for at = 1, count do
    codes[at] = finish(keys, cycle, words, first + (at - 1) * FINISH_WORDS, entries[at])
  end
  for _, name in ipairs({'processed', 'failed'}) do
    -- another's key of another type must not stop the rest
    if cycle[name] > 0 then redis.pcall('INCRBY', keys.stat(name), cycle[name]) end
  end
  return codes
end

-- Clears the slots that ended and were not filled again.
local function free_slots(keys, cycle)
  local slots, records = {}, {}
  for slot in pairs(cycle.ended) do
    if not cycle.filled[slot] then
      slots[#slots + 1] = slot
      records[#records + 1] = keys.working_on(cycle.process .. '-' .. slot, cycle.queues)
    end
  end
  if #slots == 0 then return end
  redis.call('HDEL', cycle.inflight, unpack(slots))
  redis.call('DEL', unpack(records))
end
