import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";

/** Deletes the keys that this lock still holds. Keys of other locks stay. */
export const releaseScript = operationScript(
  "release",
  `
-- value: the lock's. Returns the number of keys deleted.
local function release(keys, first, last, value)
  local deleted = 0
  for i = first, last do
    if valueOf(keys[i]) == value then deleted = deleted + redis.call('DEL', keys[i]) end
  end
  return deleted
end
`,
  [valueOf],
);

/** Deletes the keys that hold `value`. */
export function releaseOperation(keys: readonly string[], value: string): Operation {
  return new Operation(releaseScript, keys, [value], { resendUndecided: true });
}
