import { type OperationScript, operationScript } from "./script.js";
import { setAll } from "./set-all.js";
import { strangeReply } from "./operation.js";

/** Sets all keys or none. For a single key outside a batch, the plain command `SET key value NX PX ttl`. */
export const acquireScript: OperationScript = {
  ...operationScript(
    "acquire",
    `
-- value: the lock's. ttlMs: its ttl.
-- Returns the number of keys set: all of them, or 0 if one exists.
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
   * Source: the Redlock description, "Correct implementation with a single instance": the client acquires with
   * `SET key value NX PX ttl`.
   */
  plain: (keys, [value = "", ttlMs = 0]) =>
    keys.length > 1
      ? undefined
      : { command: "set", args: [keys[0] ?? "", value, "NX", "PX", ttlMs] },
};

/** Returns how many keys an acquire or extend was applied to. SET returns OK or null, a script a number. */
export function appliedTo(reply: unknown, keyCount: number): number {
  if (reply === "OK") return keyCount;
  if (reply === null) return 0;
  // A client set to `stringNumbers` gives integers as strings.
  const applied = typeof reply === "string" ? Number(reply) : reply;
  if (typeof applied === "number" && Number.isInteger(applied)) return applied;
  throw strangeReply(reply, "OK, null or an integer");
}
