-- The arguments of an element, as they are written there; nil if it has another form than node-resque and we give it. They are
-- what locks are made of, and stand behind a queue that may have any text as its name.
local EXPIRES_AT = ',"expires_at":'

-- The moment until when a job may start, as digits; nil without one. A job may be large, so it is looked for at the end.
local function moment_of(raw)
  return string.match(string.sub(raw, -40), '%]' .. EXPIRES_AT .. '(%d+)}$')
end

local function args_of(raw)
  local _, opening = string.find(raw, '^{"class":"[^"\\]*","queue":"')
  if not opening then return nil end
  local closing, bracket = string.find(raw, '","args":[', opening + 1, true)
  if not closing then return nil end
  local name = string.gsub(string.sub(raw, opening + 1, closing - 1), '\\.', '')
  if string.find(name, '"', 1, true) then return nil end -- the queue's name had ended before
  local moment = moment_of(raw)
  if moment then return string.sub(raw, bracket, -#moment - #EXPIRES_AT - 2) end
  return string.sub(raw, -2) == ']}' and string.sub(raw, bracket, -2) or nil
end
