-- The queue that an element names. The patterns are how node-resque and we write it, and resque-scheduler; they find the queue
-- of elements that cjson does not read (lone surrogates, deep nesting) but a worker may.
local function queue_of(raw)
  local queue = string.match(raw, '^{"class":"[^"\\]*","queue":"([^"\\]+)","args":%[')
    or string.match(raw, '^{"class":"[^"\\]*","args":%[.*%],"queue":"([^"\\]+)"}$')
  if queue then return queue end
  local valid, element = pcall(cjson.decode, raw)
  queue = valid and type(element) == 'table' and element.queue
  return type(queue) == 'string' and queue ~= '' and queue or nil
end
