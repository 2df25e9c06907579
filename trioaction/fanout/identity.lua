-- Which child of which fan-out a job is, from its raw bytes.
local CHILD_AS_WE_WRITE_IT = '^{"class":"[^"\\]*","queue":"[^"\\]*","args":%[{'
  .. '"_fanOutId":"([0-9a-f]+)","_fanOutIndex":(%d+)[,}]'

-- Elements that another program has re-encoded have our fields anywhere in the first argument.
local function child_elsewhere(raw)
  local decoded, element = pcall(cjson.decode, raw)
  local args = decoded and type(element) == 'table' and element.args
  local first = type(args) == 'table' and args[1]
  if type(first) ~= 'table' then return nil end
  return first._fanOutId, first._fanOutIndex
end

-- The id and the index, a number; or nil if it is no child, or one with an id or index that we never write.
local function child_of(raw)
  if not string.find(raw, '"_fanOutId"', 1, true) then return nil end
  local id, index = string.match(raw, CHILD_AS_WE_WRITE_IT)
  if not id then
    id, index = child_elsewhere(raw)
    if type(id) ~= 'string' or type(index) ~= 'number' then return nil end
  end
  index = tonumber(index)
  if #id ~= 32 or string.find(id, '[^0-9a-f]') then return nil end
  if index < 0 or index > 4294967295 or index % 1 ~= 0 then return nil end
  return id, index
end
