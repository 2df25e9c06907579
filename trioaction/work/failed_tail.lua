-- Looks through the newest entries of the failed list for those that have a text, by which they may be what is looked for.
--
-- KEYS: none; all are made from the namespace.
-- ARGV: namespace, the text, how many of the newest entries to pass over, most entries to look at.
-- Returns {how many were looked at, ...} and the entries; fewer than asked for if they are long, or if there are no more.
-- Reads only.
-- include: ../resque/keys.lua
-- include: ../resque/types.lua
local AT_ONCE, MAX_BYTES = 10, 1048576
local keys, text, passed, most = keys_of(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local looked, bytes, found = 0, 0, {0}
if not fits(keys.failed, 'list') then return found end
while looked < most and bytes < MAX_BYTES do
  local last = -1 - passed - looked
  local entries = redis.call('LRANGE', keys.failed, last - AT_ONCE + 1, last)
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    bytes = bytes + #entry
    if string.find(entry, text, 1, true) then found[#found + 1] = entry end
  end
  looked = looked + #entries
end
found[1] = looked
return found
