import { operationScript } from "./script.js";
import { setAll } from "./set-all.js";

/** All or nothing. Alone and for a single resource it is the plain `SET key value NX PX ttl`. */
export const acquireScript = operationScript(
  "acquire",
  `
-- value: the lock's. ttlMs: its ttl.
-- Returns the number of keys set: all of them, or 0 where one is taken.
local function acquire(keys, first, last, value, ttlMs)
  if first == last then
    return redis.call('SET', keys[first], value, 'NX', 'PX', ttlMs) and 1 or 0
  end
  for i = first, last do
    if redis.call('EXISTS', keys[i]) == 1 then return 0 end
  end
  return setAll(keys, first, last, 1, value, ttlMs)
end
`,
  [setAll],
);
