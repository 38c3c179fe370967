import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";

/**
 * Extends if every key still holds the lock's value. It never brings an expiry nearer, so that a late, failed or shorter
 * extension cannot break the promise of an earlier one.
 */
export const extendScript = operationScript(
  "extend",
  `
-- value: the lock's. ttlMs: for how long from now.
-- Returns the number of keys that live for at least the ttl: all of them, or 0 if one does not hold the value.
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
