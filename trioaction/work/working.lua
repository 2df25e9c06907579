-- What a worker works on, as Resque's dashboards read it; the element is spliced in as it is, since cjson would
-- turn [] into {} and cut long numbers.
local MAX_SHOWN = 65536
local TOO_LARGE = '{"class":"(too large to show)","args":[]}'

-- The head of such records; made once for many jobs, since cjson is slow to start.
local function working_head(run_at, queue)
  return '{"run_at":"' .. run_at .. '","queue":' .. cjson.encode(queue) .. ',"worker":"'
end

local function working_record(head, worker, raw)
  local is_object = string.byte(raw, 1) == 123 and string.byte(raw, -1) == 125 -- looks like one, at least
  return head .. worker .. '","payload":' .. (is_object and #raw <= MAX_SHOWN and raw or TOO_LARGE) .. '}'
end
