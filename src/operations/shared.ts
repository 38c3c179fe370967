import { Operation } from "./operation.js";
import { locksOf, queue, type QueueKeys } from "./queue.js";
import { readers, readersKeysOf } from "./readers.js";
import { operationScript } from "./script.js";
import { valueOf } from "./value-of.js";

/** Lets a reader into all locks or none: into those that are free or that readers hold, unless a writer waits. */
export const acquireSharedScript = operationScript(
  "acquireShared",
  `
-- value, ttlMs: the lock's. step: 3 if the locks' keys come with those of their queues, 1 if not. The keys of the readers'
-- sets follow.
-- Returns the number of locks entered: all of them, or 0.
local function acquireShared(keys, first, last, value, ttlMs, step)
  local sets, middle = readersIn(keys, first, last, tonumber(step))
  -- Without a ticket, every waiting writer is before it.
  if not mayTakeAll(keys, first, middle, math.huge, '', sets) then return 0 end
  return enterAll(keys, first, middle, sets, value, ttlMs)
end
`,
  [valueOf, readers, queue],
);

/** Extends a reader that the node still has. As for other locks, no expiry comes nearer. */
export const extendSharedScript = operationScript(
  "extendShared",
  `
-- value: the lock's. ttlMs: for how long from now. The keys of the readers' sets follow those of the locks.
-- Returns the number of locks that it reads for at least the ttl: all of them, or 0 if it does not read one any more.
local function extendShared(keys, first, last, value, ttlMs)
  local sets, middle = readersIn(keys, first, last, 1)
  for i = first, middle do
    sets.untilMs[i] = sharedUntil(keys[i], sets[i])
    if not sets.untilMs[i] or untilOf(sets[i], value) < nodeMs() then return 0 end
  end
  -- Above its maxmemory, a server refuses ZADD, unless the script has written: an extension needs no more memory.
  redis.call('ZREM', sets[first], '')
  return enterAll(keys, first, middle, sets, value, ttlMs)
end
`,
  [valueOf, readers, queue],
);

/** Removes a reader, or several of one lock. The last one deletes the marker. */
export const releaseSharedScript = operationScript(
  "releaseShared",
  `
-- value: the lock's; more may follow. The keys of the readers' sets follow those of the locks. Returns the number of keys
-- deleted.
local function releaseShared(keys, first, last, ...)
  local sets, middle = readersIn(keys, first, last, 1)
  local deleted = 0
  for i = first, middle do
    if exit(keys[i], sets[i], ...) then deleted = deleted + redis.call('DEL', keys[i]) end
  end
  return deleted
end
`,
  [valueOf, readers],
);

/**
 * Lets a reader in.
 *
 * @param queueKeys the keys with those of their queues, if writers that wait there are to go first
 */
export function acquireSharedOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  queueKeys?: QueueKeys,
): Operation {
  const sets = readersKeysOf(keys);
  if (queueKeys === undefined) {
    return new Operation(acquireSharedScript, [...keys, ...sets], [value, ttlMs, 1], {
      sets: value,
    });
  }
  return new Operation(acquireSharedScript, [...queueKeys, ...sets], [value, ttlMs, 3], {
    sets: value,
    otherwise: () => acquireSharedOperation(locksOf(queueKeys), value, ttlMs),
  });
}

/** Lets a reader that still reads do so for at least `ttlMs`. */
export function extendSharedOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
): Operation {
  return new Operation(extendSharedScript, [...keys, ...readersKeysOf(keys)], [value, ttlMs], {
    sets: value,
    requiresOwnValue: true,
  });
}

/** Ends a reader's lock without handing over. */
export function releaseSharedOperation(keys: readonly string[], value: string): Operation {
  return new Operation(releaseSharedScript, [...keys, ...readersKeysOf(keys)], [value], {
    resendUndecided: true,
  });
}
