-- Finishes jobs with everything that their end means, so that no effect can be lost on its own. Places that end are
-- noted in `cycle.ended`; free_places() clears those that got no new job in the same cycle.
-- Each outcome is its number of words and as many of these, of which the last ones are left out if they are empty: place,
-- token, failed entry (a job that failed), fan-out id, child index, child entry (a child; "" if it was cancelled), recurring
-- action, job id (a run of a recurring action), element, Unix ms, ms from now (a job that is tried again: then there is no
-- failed entry).
-- include: ../fanout/void.lua
-- include: effects.lua
-- include: guard.lua
-- include: job_locks.lua
-- include: suspects.lua

-- Where the outcomes begin, behind their numbers of words, and what comes behind the last one.
local function outcomes_from(words, first, count)
  local starts, at = {}, first
  for number = 1, count do
    starts[number] = at + 1
    at = at + 1 + tonumber(words[at])
  end
  return starts, at
end

-- How the job ended: "completed", "failed" or "cancelled"; or "again", if there will be another attempt: for a child only
-- if somebody wants it still.
local function manner(keys, child, size, failure, entry, delay)
  if delay then return child ~= '' and is_void(keys, child) and 'cancelled' or 'again' end
  if child ~= '' and entry == '' then return 'cancelled' end
  return (size < 3 or failure == '') and 'completed' or 'failed'
end

-- Returns why the outcome at `from` is not applied in full: "unknown" (the place does not hold this job), or the code of
-- account() if its fan-out does not count it; else "".
local function finish(keys, cycle, words, from, entry)
  local size, place = tonumber(words[from - 1]), words[from]
  if cycle.ended[place] or not has_token(entry, words[from + 1]) then return 'unknown' end
  cycle.ended[place] = true
  if cycle.has_locks then release_lock(keys, cycle.process, place, cycle.touched) end
  if cycle.wary then forget_deaths(keys, (select(3, inflight_parts(entry)))) end
  local failure, child, action = words[from + 2], size > 3 and words[from + 3] or '', size > 6 and words[from + 6] or ''
  local delay = size > 8 and tonumber(words[from + 10]) or nil
  local how = manner(keys, child, size, failure, words[from + 5], delay)
  if action ~= '' then guard_until(keys, action, words[from + 7], how == 'again' and delay or nil) end
  if how == 'again' then
    keep_retry(keys, cycle, words[from + 8], words[from + 9])
    if child ~= '' then put_child_off(keys, child, words[from + 4], delay, cycle.touched) end
    return ''
  end
  cycle[how] = cycle[how] + 1
  if how == 'failed' then keep_failure(keys, cycle, failure) end
  if child == '' then return '' end
  local code = account(keys, child, words[from + 4], how, words[from + 5], cycle.touched)
  return (code == 'counted' or how == 'cancelled') and '' or code
end

-- The outcomes that begin at `starts`; returns one code for each.
local function finish_all(keys, cycle, words, starts)
  if #starts == 0 then return {} end
  local places, codes = {}, {}
  for number, from in ipairs(starts) do places[number] = words[from] end
  local entries = redis.call('HMGET', cycle.inflight, unpack(places))
  for number, from in ipairs(starts) do codes[number] = finish(keys, cycle, words, from, entries[number]) end
  return codes
end
