import { script } from "./script.js";

export const inspectScript = script(`
-- KEYS: the lock keys.
-- Returns for each: its type, its value ('' where it is no string), its PTTL.
local found = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local value = kind == 'string' and redis.call('GET', key) or ''
  found[i] = { kind, value, redis.call('PTTL', key) }
end
return found
`);
