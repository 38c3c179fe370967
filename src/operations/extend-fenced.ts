import { extendScript } from "./extend.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { acceptFence, type Fence, fenced } from "./accept-fence.js";

/** Renews the fences as well, and gives them back to a node that lost them. */
export const extendFencedScript = operationScript(
  "extendFenced",
  `
-- keys: the resources', then their fences. value: the lock's. ttlMs: for how long from now. token: the lock's.
-- Returns what extend does, of the resources' keys. What goes wrong with a fence costs no extension.
local function extendFenced(keys, first, last, value, ttlMs, token)
  local middle = (first + last - 1) / 2
  local applied = extend(keys, first, middle, value, ttlMs)
  if applied > 0 then pcall(acceptFence, keys, middle + 1, last, value, ttlMs, token) end
  return applied
end
`,
  [valueOf, acceptFence, ...extendScript.definitions],
);

/** Keeps every key that still holds `value` for `ttlMs` at least, or none. */
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
