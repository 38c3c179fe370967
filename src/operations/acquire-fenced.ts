import { acquireScript } from "./acquire.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { acceptFence, type Fence, fenced } from "./accept-fence.js";

/** Sets all keys or none. A fence may have risen even so, which it may at any time. */
export const acquireFencedScript = operationScript(
  "acquireFenced",
  `
-- keys: the resources', then their fences. value, ttlMs: the lock's. token: the fencing token proposed.
-- Returns 'accepted', or the largest token stored, as decimals, and sets the lock in both cases; or 0 if a
-- resource is taken.
local function acquireFenced(keys, first, last, value, ttlMs, token)
  local middle = (first + last - 1) / 2
  -- Only a holder may raise a fence.
  for i = first, middle do
    if redis.call('EXISTS', keys[i]) == 1 then return 0 end
  end
  local answer = acceptFence(keys, middle + 1, last, value, ttlMs, token)
  if type(answer) == 'table' then return answer end
  local applied = acquire(keys, first, middle, value, ttlMs)
  if type(applied) == 'table' then return applied end
  return answer
end
`,
  [valueOf, acceptFence, ...acquireScript.definitions],
);

/** Sets every key to `value`, or none; with a fence, proposes its token. */
export function acquireOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence?: Fence,
): Operation {
  const sets = { sets: value };
  if (fence === undefined) return new Operation(acquireScript, keys, [value, ttlMs], sets);
  return fenced(acquireFencedScript, keys, value, ttlMs, fence, sets);
}
