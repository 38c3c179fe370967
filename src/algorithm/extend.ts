import { ExecutionError, inList, isHeld } from "../errors.js";
import { type Lock, type LockParts, partsOf } from "../lock.js";
import type { ResolvedSettings } from "../settings.js";
import { Call } from "./call.js";
import { executionError, inTurn } from "./explain.js";
import { keepOnRest } from "./give.js";
import { grantsAll } from "./grants-all.js";
import type { Instance } from "./instance.js";
import type { Lease } from "./lease.js";
import { extensionRequest } from "./requests.js";

/** One call of `extend`. */
export class Extension extends Call {
  readonly lock: Lock;
  readonly parts: LockParts;

  constructor(instance: Instance, lock: Lock, ttlMs: number, settings: ResolvedSettings) {
    const parts = partsOf(lock, "extend");
    super(instance, { resources: parts.resources, keys: parts.keys, ttlMs }, settings);
    this.lock = lock;
    this.parts = parts;
  }

  get lease(): Lease {
    return this.parts.lease;
  }
}

/** Extends, and retries as the settings say, but not beyond the lock's end. Throws an ExecutionError that says why. */
export async function extend(call: Extension): Promise<Lock> {
  const { lock, lease } = call;
  call.assertOpen();
  if (!lease.open) throw alreadyEnded(lock, lease);
  const extended = await call.untilGiven(
    () => attemptExtension(call),
    () => (lease.adopted ? Infinity : lease.remainingMs),
  );
  if (extended !== undefined) return extended;
  throw await inTurn(call, lease.released ? alreadyEnded(lock, lease) : whyNotExtended(call));
}

/** Tries to extend once. An attempt that is undecided after `limitMs`, or at the end of the old validity, has failed. */
export async function attemptExtension(
  call: Extension,
  limitMs = Infinity,
): Promise<Lock | undefined> {
  const { instance, lock, lease, keys, ttlMs, history, parts } = call;
  const leftMs = lease.adopted ? Infinity : lease.remainingMs;
  if (leftMs <= 0) return undefined;
  const since = instance.environment.now();
  const operation = extensionRequest(parts, ttlMs);
  lease.longestTtlMs = Math.max(lease.longestTtlMs, ttlMs);
  const round = call.ask(operation, grantsAll(keys.length), Math.min(limitMs, leftMs));
  history.add(round);
  if (await round.decided()) {
    call.failure = "ERR_REDLOCK_VALIDITY";
    if (!lease.renew(call.term(since))) return undefined;
    keepOnRest(round, parts);
    return lock;
  }
  call.failure = "ERR_REDLOCK_QUORUM";
  // So many nodes no longer hold it that no extension can reach a quorum, and another client may acquire it.
  if (round.isHopeless(isHeld)) lease.lose(whyNotExtended(call));
  return undefined;
}

export function whyNotExtended(call: Extension): ExecutionError {
  const hasEnded = call.failure === "ERR_REDLOCK_VALIDITY" || call.history.last?.isHopeless(isHeld);
  return executionError(call, {
    verb: extend,
    reason: hasEnded === true ? "expired" : "unavailable",
    about: `The lock on ${inList(call.resources)} was not extended.`,
    refusalInWords: () => "holds this lock no longer",
  });
}

function alreadyEnded(lock: Lock, lease: Lease): ExecutionError {
  return new ExecutionError(
    `Cannot extend an already-expired lock. The one on ${inList(lock.resources)} was ` +
      `${lease.released ? "released" : "lost"}: acquire it again.`,
    [],
    "ERR_REDLOCK_EXPIRED",
    "expired",
    lock.resources,
  );
}
