import type { Operation } from "./operation.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { acceptFence, type Fence, fenced } from "./accept-fence.js";

export const confirmFenceScript = operationScript(
  "confirmFence",
  `
-- keys: the resources', then their fences. value, ttlMs: the lock's. token: the fencing token proposed.
-- Returns 'accepted', or the largest token stored, as decimals; or 0 if this lock does not hold every key.
local function confirmFence(keys, first, last, value, ttlMs, token)
  local middle = (first + last - 1) / 2
  for i = first, middle do
    if valueOf(keys[i]) ~= value then return 0 end
  end
  return acceptFence(keys, middle + 1, last, value, ttlMs, token)
end
`,
  [valueOf, acceptFence],
);

/** Proposes a token to the nodes on which every key holds `value`. */
export function confirmFenceOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence: Fence,
): Operation {
  return fenced(confirmFenceScript, keys, value, ttlMs, fence);
}
