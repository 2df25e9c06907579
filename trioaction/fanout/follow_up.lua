-- The jobs that follow a fan-out when its last child is accounted for. Their elements are kept but for the summary, which is
-- their last input, and what closes it.
-- include: record.lua
-- include: ../resque/push_one.lua

local function summary_of(id, record, counts)
  local cut = counts.cut == '1' and 'true' or 'false'
  return '{"fanOutId":"' .. id .. '","total":' .. counts.registered .. ',"completed":' .. counts.completed .. ',"failed":'
    .. counts.failed .. ',"cancelled":' .. counts.cancelled .. ',"cutShort":' .. cut .. '}'
end

local function follow_up(keys, record, name, summary)
  local queue, head = unpack(redis.call('HMGET', record.at, name .. '_queue', name))
  if queue and head then push_one(keys, queue, head .. summary .. '}]}', 'RPUSH') end
end

-- `counts` are fields of the record, as text. It went well if all children that there were to be have completed.
local function follow_up_all(keys, id, record, counts)
  local summary = summary_of(id, record, counts)
  follow_up(keys, record, 'then', summary)
  local went_well = counts.failed == '0' and counts.cut ~= '1' and not record.is_cancelled
  if went_well then follow_up(keys, record, 'then_if_ok', summary) end
end
