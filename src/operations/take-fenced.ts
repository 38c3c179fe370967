import { acceptFence } from "./accept-fence.js";
import { operationScript } from "./script.js";
import { takeScript } from "./take.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { type Fence, fencedArgs } from "./accept-fence.js";
import { acquireOperation } from "./acquire-fenced.js";
import { argsOf, locksOf, type QueueKeys, type Standing } from "./queue.js";

export const takeFencedScript = operationScript(
  "takeFenced",
  `
-- keys: the locks' and their lines', then the fences. token: the fencing token proposed. The others: as in take.
-- Returns 'accepted', or the largest token stored, as decimals, and the lock is set all the same; or, refused,
-- what a waiter is told.
local function takeFenced(keys, first, last, value, ttlMs, token, time, id, channel, graceMs, lifeMs)
  local lastInLine = first - 1 + (last - first + 1) * 3 / 4
  local isOpen = mayTakeAll(keys, first, lastInLine, tonumber(time), id)
  local answer = isOpen and acceptFence(keys, lastInLine + 1, last, value, ttlMs, token)
  if type(answer) == 'table' then return answer end
  local taken = take(keys, first, lastInLine, value, ttlMs, time, id, channel, graceMs, lifeMs)
  return type(taken) == 'table' and taken or answer
end
`,
  [valueOf, acceptFence, ...takeScript.definitions],
);

/** Acquires what is free, or reserved for this waiter; stands in line for what is not. */
export function takeOperation(
  keys: QueueKeys,
  value: string,
  ttlMs: number,
  standing: Standing,
  fence?: Fence,
): Operation {
  const rest = {
    sets: value,
    otherwise: () => acquireOperation(locksOf(keys), value, ttlMs, fence),
  };
  if (fence === undefined) {
    return new Operation(takeScript, keys, [value, ttlMs, ...argsOf(standing)], rest);
  }
  const args = [...fencedArgs(value, ttlMs, fence), ...argsOf(standing)];
  return new Operation(takeFencedScript, [...keys, ...fence.keys], args, rest);
}
