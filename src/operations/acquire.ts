import { type OperationScript, operationScript } from "./script.js";
import { setAll } from "./set-all.js";
import { strangeReply } from "./operation.js";

/** All or nothing. Alone and for a single resource it is the plain `SET key value NX PX ttl`. */
export const acquireScript: OperationScript = {
  ...operationScript(
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
  ),
  /**
   * Source: the Redlock description, "Correct implementation with a single instance": `SET key value NX PX ttl`
   * acquires.
   */
  plain: (keys, [value = "", ttlMs = 0]) =>
    keys.length > 1
      ? undefined
      : { command: "set", args: [keys[0] ?? "", value, "NX", "PX", ttlMs] },
};

/** How many of the keys an acquire or extend was applied to. SET answers OK or null, a script a number. */
export function appliedTo(reply: unknown, keyCount: number): number {
  if (reply === "OK") return keyCount;
  if (reply === null) return 0;
  // A client set to `stringNumbers` gives integers as strings.
  const applied = typeof reply === "string" ? Number(reply) : reply;
  if (typeof applied === "number" && Number.isInteger(applied)) return applied;
  throw strangeReply(reply, "OK, null or an integer");
}
