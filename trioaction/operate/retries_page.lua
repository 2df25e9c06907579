-- Reads jobs that wait for their next attempt, the one that is due first first: at most so many, or a little over 1 MiB.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, Unix ms, how many jobs of that moment are passed over, most jobs.
-- Returns {raw, Unix ms, raw, Unix ms, ...}; none if there is no more.
-- Reads only.
-- include: ../resque/keys.lua
local MAX_BYTES, PIECE = 1048576, 64
local keys, most, found, bytes, piece = keys_of(ARGV[1]), tonumber(ARGV[4]), {}, 0, 1
local rank = redis.call('ZCOUNT', keys.retry, '-inf', '(' .. ARGV[2]) + tonumber(ARGV[3])

-- Few at a time until it is known how large they are.
local function next_piece()
  local jobs = #found / 2
  local fit = jobs == 0 and 1 or math.ceil((MAX_BYTES - bytes) * jobs / math.max(1, bytes))
  piece = math.min(piece * 2, PIECE)
  return math.max(1, math.min(piece, most - jobs, fit))
end

while #found < 2 * most and bytes < MAX_BYTES do
  local asked = next_piece()
  local flat = redis.call('ZRANGE', keys.retry, rank, rank + asked - 1, 'WITHSCORES')
  for at = 1, #flat, 2 do
    found[#found + 1], found[#found + 2], bytes = flat[at], flat[at + 1], bytes + #flat[at]
  end
  rank = rank + asked
  if #flat < 2 * asked then break end
end
return found
