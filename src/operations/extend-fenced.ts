import { extendScript } from "./extend.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { acceptFence, type Fence, fenced } from "./accept-fence.js";

/** Extends the fences as well, and stores them again on a node that lost them. */
export const extendFencedScript = operationScript(
  "extendFenced",
  `
-- keys: the resources', then their fences. value: the lock's. ttlMs: for how long from now. token: the lock's.
-- Returns what extend returns for the resources' keys. An error with a fence does not fail the extension.
local function extendFenced(keys, first, last, value, ttlMs, token)
  local middle = (first + last - 1) / 2
  local applied = extend(keys, first, middle, value, ttlMs)
  if applied > 0 then pcall(acceptFence, keys, middle + 1, last, value, ttlMs, token) end
  return applied
end
`,
  [valueOf, acceptFence, ...extendScript.definitions],
);

/** Lets every key that still holds `value` live for at least `ttlMs`; all keys or none. */
export function extendOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence?: Fence,
): Operation {
  const options = { sets: value, requiresOwnValue: true } as const;
  if (fence === undefined) return new Operation(extendScript, keys, [value, ttlMs], options);
  return fenced(extendFencedScript, keys, value, ttlMs, fence, options);
}
