import { operationScript } from "./script.js";

export const inspectScript = operationScript(
  "inspect",
  `
-- Returns for each key: its type, its value ('' where it is no string), its PTTL.
local function inspect(keys, first, last)
  local found = {}
  for i = first, last do
    local kind = redis.call('TYPE', keys[i]).ok
    local value = kind == 'string' and redis.call('GET', keys[i]) or ''
    found[#found + 1] = { kind, value, redis.call('PTTL', keys[i]) }
  end
  return found
end
`,
);
