-- An element that was due and names no queue: into the failed list, in an entry that every reader survives and that has all
-- its bytes. Base64, since the element may be no JSON, nor even UTF-8 (cjson would let both through).
local MAX_ENCODED = 1048576 -- Redis does nothing else meanwhile: some 0.1 s
local BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

local function base64(raw)
  local pairs_of, words, count = {}, {}, 0
  for bits = 0, 4095 do
    local one, two = math.floor(bits / 64) + 1, bits % 64 + 1
    pairs_of[bits] = string.sub(BASE64, one, one) .. string.sub(BASE64, two, two)
  end
  for at = 1, #raw, 3 do
    local one, two, three = string.byte(raw, at, at + 2)
    two, three, count = two or 0, three or 0, count + 1
    words[count] = pairs_of[one * 16 + math.floor(two / 16)] .. pairs_of[two % 16 * 256 + three]
  end
  local padding = (3 - #raw % 3) % 3
  return string.sub(table.concat(words), 1, -1 - padding) .. string.rep('=', padding)
end

-- As payload.failed_entry writes it; no "/" is escaped, or node-resque could not remove the entry.
local function buried_entry(raw, worker, failed_at)
  return '{"worker":' .. cjson.encode(worker) .. ',"queue":"","payload":{"class":null,"args":[],"raw_base64":"' .. base64(raw)
    .. '"},"exception":"JobError","error":"The job is not JSON with a queue","backtrace":'
    .. '["while moving a job that was due to its queue"],"failed_at":"' .. failed_at .. '"}'
end

-- What cannot be kept there, too long or for want of a list, is kept in a list of ours, and the reason is in `problems`.
local function bury(keys, raw, worker, failed_at, problems)
  redis.pcall('INCR', keys.stat('failed'))
  if #raw > MAX_ENCODED then
    redis.call('RPUSH', keys.stranded_jobs, raw)
    problems[#problems + 1] = 'a job that was due and names no queue is over 1 MiB: it is kept in ' .. keys.stranded_jobs
    return
  end
  local entry = buried_entry(raw, worker, failed_at)
  if type(redis.pcall('RPUSH', keys.failed, entry)) == 'table' then
    redis.call('RPUSH', keys.stranded_failures, entry)
    problems[#problems + 1] = keys.failed .. ' is no list: its entries are kept in ' .. keys.stranded_failures
  end
end
