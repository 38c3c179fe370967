import { acceptFence } from "./accept-fence.js";
import { operationScript } from "./script.js";
import { takeScript } from "./take.js";
import { valueOf } from "./value-of.js";
import { Operation } from "./operation.js";
import { type Fence, fencedArgs } from "./accept-fence.js";
import { acquireOperation } from "./acquire-fenced.js";
import { readersKeysOf } from "./readers.js";
import { acquireSharedOperation } from "./shared.js";
import { argsOf, locksOf, type QueueKeys, type QueueEntry } from "./queue.js";

export const takeFencedScript = operationScript(
  "takeFenced",
  `
-- keys: those of the locks and their queues, then the fences. token: the fencing token proposed. The others: as in take.
-- Returns 'accepted', or the largest token stored, as decimals, and sets the lock in both cases; or, refused, the
-- queue's reply.
local function takeFenced(keys, first, last, value, ttlMs, token, time, id, channel, graceMs, lifeMs)
  local lastQueueKey = first - 1 + (last - first + 1) * 3 / 4
  local isOpen = mayTakeAll(keys, first, lastQueueKey, tonumber(time), id)
  local answer = isOpen and acceptFence(keys, lastQueueKey + 1, last, value, ttlMs, token)
  if type(answer) == 'table' then return answer end
  local taken = take(keys, first, lastQueueKey, value, ttlMs, time, id, channel, graceMs, lifeMs)
  return type(taken) == 'table' and taken or answer
end
`,
  [valueOf, acceptFence, ...takeScript.definitions],
);

/** Lets a waiting reader in, or joins the queue for the locks that it cannot have. */
export function takeSharedOperation(
  keys: QueueKeys,
  value: string,
  ttlMs: number,
  entry: QueueEntry,
): Operation {
  const locks = locksOf(keys);
  const args = [value, ttlMs, ...argsOf(entry), 1];
  return new Operation(takeScript, [...keys, ...readersKeysOf(locks)], args, {
    sets: value,
    otherwise: () => acquireSharedOperation(locks, value, ttlMs),
  });
}

/** Acquires keys that are free or reserved for this waiter; joins the queue for the others. */
export function takeOperation(
  keys: QueueKeys,
  value: string,
  ttlMs: number,
  entry: QueueEntry,
  fence?: Fence,
): Operation {
  const rest = {
    sets: value,
    otherwise: () => acquireOperation(locksOf(keys), value, ttlMs, fence),
  };
  if (fence === undefined) {
    return new Operation(takeScript, keys, [value, ttlMs, ...argsOf(entry)], rest);
  }
  const args = [...fencedArgs(value, ttlMs, fence), ...argsOf(entry)];
  return new Operation(takeFencedScript, [...keys, ...fence.keys], args, rest);
}
