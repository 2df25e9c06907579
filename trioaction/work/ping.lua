-- The pings of workers: the sign of life by which node-resque's leader tells the dead from the living.

-- The pings of the slots from `first` to `last`. The name in each must be the end of its key, or node-resque would clean another
-- worker.
local CHUNK_OF_PINGS = 500 -- unpack() ends at about 8,000
local function write_pings(keys, process, queues, seconds, first, last)
  local head, tail = '{"time":' .. seconds .. ',"name":', ',"queues":' .. cjson.encode(queues) .. '}'
  for from = first, last, CHUNK_OF_PINGS do
    local words = {}
    for slot = from, math.min(from + CHUNK_OF_PINGS - 1, last) do
      local worker = process .. '-' .. string.format('%d', slot)
      words[#words + 1], words[#words + 2] = keys.ping(worker), head .. cjson.encode(worker) .. tail
    end
    redis.call('MSET', unpack(words))
  end
end
