import { line } from "./line.js";
import { operationScript, withShortcut } from "./script.js";

/** Releases what is still ours to the next in line, without a moment in which the key is free. */
export const handOverScript = withShortcut(
  operationScript(
    "handOver",
    `
-- value: the lock's. Returns the number of locks released.
local function handOver(keys, first, last, value)
  local released = 0
  for i = first, last, 3 do
    if redis.pcall('GET', keys[i]) == value then
      passOn(keys[i], keys[i + 1], keys[i + 2], '')
      released = released + 1
    end
  end
  return released
end
`,
    [line],
  ),
  `
-- One lock for which nobody waits.
if #KEYS == 3 and redis.call('EXISTS', KEYS[2]) == 0 then
  return redis.pcall('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
end
`,
);
