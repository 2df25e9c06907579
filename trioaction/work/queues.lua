-- The queues that "*" stands for: those with jobs in them, except the ones that are named beside it.
local CHUNK = 1000 -- unpack() ends at about 8,000

local function add_existing(keys, names, from, found)
  local checked, upto = {}, math.min(from + CHUNK - 1, #names)
  for at = from, upto do checked[#checked + 1] = keys.queue(names[at]) end
  local count = redis.call('EXISTS', unpack(checked))
  if count == 0 then return end
  if count == 1 and from == upto then
    found[#found + 1] = names[from]
    return
  end
  for at = from, upto do
    if redis.call('EXISTS', checked[at - from + 1]) == 1 then found[#found + 1] = names[at] end
  end
end

local function other_queues(keys, named, problems)
  local all = redis.pcall('SMEMBERS', keys.queues)
  if all.err then
    problems[#problems + 1] = keys.queues
    return {}
  end
  local skip, names, found = {}, {}, {}
  for _, name in ipairs(named) do skip[name] = name ~= '*' end -- somebody may call a queue so
  for _, name in ipairs(all) do
    if not skip[name] then names[#names + 1] = name end
  end
  for from = 1, #names, CHUNK do add_existing(keys, names, from, found) end
  table.sort(found) -- a set has no order, and the turn must go on where it ended
  return found
end
