-- The bits of the indexes that have been registered: those that were refused, or came to nothing, have none.

-- Sets the bits from `first` to below `upto`, whole bytes at once.
local function set_range(bits, first, upto)
  while first < upto and first % 8 ~= 0 do
    redis.call('SETBIT', bits, first, 1)
    first = first + 1
  end
  local bytes = math.floor((upto - first) / 8)
  if bytes > 0 then redis.call('SETRANGE', bits, first / 8, string.rep('\255', bytes)) end
  for index = first + 8 * bytes, upto - 1 do redis.call('SETBIT', bits, index, 1) end
end
