-- The action that an element names; nil if it is none that cjson reads. The pattern is how Resque programs write it.
local function action_of(raw)
  local action = string.match(raw, '^%s*{%s*"class"%s*:%s*"([^"\\]*)"')
  if action then return action end
  local valid, element = pcall(cjson.decode, raw)
  action = valid and type(element) == 'table' and element.class
  return type(action) == 'string' and action or nil
end
