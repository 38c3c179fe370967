import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";

/**
 * Renews where every key still holds the lock's value. An expiry never comes nearer: a late, failed
 * or shorter extension leaves what an earlier one promised.
 */
export const extendScript = operationScript(
  "extend",
  `
-- value: the lock's. ttlMs: for how long from now.
-- Returns the number of keys that live for the ttl at least: all of them, or 0 where one is not ours.
local function extend(keys, first, last, value, ttlMs)
  for i = first, last do
    if valueOf(keys[i]) ~= value then return 0 end
  end
  for i = first, last do
    local left = redis.call('PTTL', keys[i])
    if left >= 0 and left < tonumber(ttlMs) then redis.call('PEXPIRE', keys[i], ttlMs) end
  end
  return last - first + 1
end
`,
  [valueOf],
);
