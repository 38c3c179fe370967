/** How the scripts read a key, which may hold something that is no lock. */
export const valueOf = `
-- What the key holds: its text, false where there is no key, a table where it is of another type.
local function valueOf(key)
  local value = redis.pcall('GET', key)
  if type(value) ~= 'table' or string.sub(value.err, 1, 9) == 'WRONGTYPE' then return value end
  -- Every other error is one, such as a right that is missing: it is raised as each server raises its own.
  return redis.call('GET', key)
end
`;
