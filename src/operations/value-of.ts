/** Lua function with which the scripts read a key, which may hold other data than a lock. */
export const valueOf = `
-- Returns the key's text; false if there is no key; a table if it holds another type.
local function valueOf(key)
  local value = redis.pcall('GET', key)
  if type(value) ~= 'table' or string.sub(value.err, 1, 9) == 'WRONGTYPE' then return value end
  -- Any other error, such as a missing right, must fail the script. Calling again raises it as the server does.
  return redis.call('GET', key)
end
`;
