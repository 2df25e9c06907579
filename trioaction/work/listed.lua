-- Which workers of a process somebody has struck off: node-resque's leader takes them from the list of workers, and their pings.
local CHUNK_OF_WORKERS = 1000 -- unpack() ends at about 8,000

-- The slots from `first` to `last` as places.
local function slots_of(first, last)
  local places = {}
  for slot = first, last do places[#places + 1] = string.format('%d', slot) end
  return places
end

-- Have all these places, as far as they are slots, a ping?
local function all_pinged(keys, process, places, from, upto)
  local pings = {}
  for at = from, upto do
    if string.byte(places[at]) ~= 112 then pings[#pings + 1] = keys.ping(process .. '-' .. places[at]) end -- "p"
  end
  return #pings == 0 or redis.call('EXISTS', unpack(pings)) == #pings
end

-- Of these places, a set of those that are not listed, and a list of those that are not, or have no ping.
local function struck_off(keys, process, queues, places)
  local unlisted, found = {}, {}
  for from = 1, #places, CHUNK_OF_WORKERS do
    local members, upto = {}, math.min(from + CHUNK_OF_WORKERS - 1, #places)
    for at = from, upto do members[#members + 1] = process .. '-' .. places[at] .. ':' .. queues end
    local pinged = all_pinged(keys, process, places, from, upto)
    for number, is_listed in ipairs(redis.call('SMISMEMBER', keys.workers, unpack(members))) do
      local at = from + number - 1
      if is_listed == 0 then unlisted[places[at]] = true end
      if is_listed == 0 or not (pinged or all_pinged(keys, process, places, at, at)) then found[#found + 1] = places[at] end
    end
  end
  return unlisted, found
end
