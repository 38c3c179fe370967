import type { Lock, LockParts } from "../lock.js";
import { partsOf } from "../lock.js";
import type { Fence } from "../operations/accept-fence.js";
import { acquireOperation } from "../operations/acquire-fenced.js";
import { extendOperation } from "../operations/extend-fenced.js";
import { handOverOperation } from "../operations/hand-over.js";
import { joinPermitsOperation } from "../operations/join-permits.js";
import { joinOperation } from "../operations/join.js";
import { leaveOperation } from "../operations/leave.js";
import type { Operation } from "../operations/operation.js";
import type { QueueEntry, QueueKeys } from "../operations/queue.js";
import { releaseOperation } from "../operations/release.js";
import {
  acquireSharedOperation,
  extendSharedOperation,
  releaseSharedOperation,
} from "../operations/shared.js";
import { takeOperation, takeSharedOperation } from "../operations/take-fenced.js";
import { takePermitOperation } from "../operations/take-permit.js";
import { queueKeysOf } from "../waiting/queue-keys.js";
import type { QueuedAttempt } from "../waiting/wait.js";
import type { Question } from "../quorum/ballot.js";
import type { Acquisition } from "./call.js";

/**
 * What the nodes are asked to store of a lock. There are three kinds: one that a single holder has, that of a reader among
 * others (`shared`), and one of several permits, which is a lock of the first kind on the key of its slot. This file alone
 * tells which operations each kind needs.
 */
export interface Claim {
  readonly keys: readonly string[];
  readonly value: string;
  readonly shared: boolean;
  readonly permit?: number | undefined;
  readonly fence?: Fence | undefined;
}

/** Returns what an attempt asks each node: without the queue, the same of all. */
export function attemptRequest(
  { instance, ttlMs, settings, permits }: Acquisition,
  { keys, value, shared, permit, fence }: Claim,
  queued: QueuedAttempt | undefined,
): Question["operation"] {
  if (queued !== undefined) {
    return (node) => {
      const entry = queued.entryFor(node);
      if (shared) return takeSharedOperation(queued.keys, value, ttlMs, entry);
      return permits === undefined || permit === undefined
        ? takeOperation(queued.keys, value, ttlMs, entry, fence)
        : takePermitOperation(permits.slotKeys, permit, value, ttlMs, entry);
    };
  }
  if (!shared) return acquireOperation(keys, value, ttlMs, fence);
  // Only a reader looks at the queue here: it could join others for ever, while a writer waits.
  const queueKeys = settings.queue ? instance.queues.keysFor(keys) : undefined;
  return acquireSharedOperation(keys, value, ttlMs, queueKeys);
}

/** Returns what sets the keys of a lock that is held where they are free. A reader passes waiting writers: none of them can have the lock before it ends. */
export function giftRequest({ keys, value, shared, fence }: Claim, ttlMs: number): Operation {
  return shared
    ? acquireSharedOperation(keys, value, ttlMs)
    : acquireOperation(keys, value, ttlMs, fence);
}

export function extensionRequest({ keys, value, shared, fence }: Claim, ttlMs: number): Operation {
  return shared
    ? extendSharedOperation(keys, value, ttlMs)
    : extendOperation(keys, value, ttlMs, fence);
}

/** Returns what ends a lock; with the keys of its queue, it also hands over to the next waiter. */
export function releaseRequest(
  { keys, value, shared }: Omit<Claim, "fence">,
  queueKeys?: QueueKeys,
): Operation {
  if (queueKeys !== undefined) return handOverOperation(queueKeys, value, shared);
  return shared ? releaseSharedOperation(keys, value) : releaseOperation(keys, value);
}

/** Returns what asks a node for a place in the queue. */
export function joinRequest(
  { permits, settings: { shared } }: Acquisition,
  queueKeys: QueueKeys,
  entry: QueueEntry,
): Operation {
  return permits === undefined
    ? joinOperation(queueKeys, entry, shared)
    : joinPermitsOperation(permits.slotKeys, entry);
}

/** Returns what takes a waiter out of the queue, in order: what was reserved for it is freed for the lock that it has by now, or passed on. */
export function leaveRequests(
  { settings: { shared } }: Acquisition,
  queueKeys: QueueKeys,
  id: string,
  lock: Lock | undefined,
): readonly Operation[] {
  const leave = (keys: QueueKeys, holds: boolean): Operation =>
    leaveOperation(keys, id, holds, shared);
  if (lock === undefined) return [leave(queueKeys, false)];
  const { keys, permit }: LockParts = partsOf(lock, "acquire");
  if (permit === undefined) return [leave(queueKeys, true)];
  // The other slots that were reserved for it are passed on.
  return [leave(queueKeysOf(keys) ?? [], true), leave(queueKeys, false)];
}
