import { isHeld, ResourceLockedError } from "../errors.js";
import { Lock, partsOf } from "../lock.js";
import type { Fence } from "../operations/accept-fence.js";
import { appliedTo } from "../operations/acquire.js";
import { acquireOperation } from "../operations/acquire-fenced.js";
import { queueReplyIn } from "../operations/queue.js";
import { takeOperation } from "../operations/take-fenced.js";
import type { Question } from "../quorum/ballot.js";
import type { Round } from "../quorum/round.js";
import { endOfTurn } from "../runtime/environment.js";
import type { Stand } from "../waiting/wait.js";
import type { Acquisition } from "./call.js";
import { lookBeforeEnd, whyNotAcquired } from "./explain.js";
import { acceptedFence, proposedFence, setsLock } from "./fence.js";
import { giveKeys, giveToRest } from "./give.js";
import { Lease } from "./lease.js";
import { releaseFailedAttempt } from "./release.js";
import { validityMs } from "./validity.js";

/** Attempts, then waits for the lock as the settings say. Throws why there is none. */
export async function acquire(call: Acquisition): Promise<Lock> {
  call.settings.signal?.throwIfAborted();
  const lock = (await firstAttempt(call)) ?? (await wait(call));
  if (lock !== undefined) return lock;
  throw await whyNotAcquired(call);
}

/** Attempts once. Null where others hold the lock. */
export async function tryAcquire(call: Acquisition): Promise<Lock | null> {
  const { settings, history } = call;
  settings.signal?.throwIfAborted();
  const lock = await attempt(call);
  if (lock !== undefined) return lock;
  const { last } = history;
  const isTaken =
    call.failure === "ERR_REDLOCK_QUORUM" &&
    last?.wasCut === false &&
    (await last.quorumWith(isHeld));
  if (isTaken && settings.signal?.aborted !== true) return null;
  throw await whyNotAcquired(call);
}

/**
 * One attempt. The steps are those of the Redlock description; a waiter's attempt, with `stand`, differs in what
 * it asks of the nodes, not in how they are counted.
 */
async function attempt(
  call: Acquisition,
  stand?: Stand,
  onRound?: (round: Round) => void,
): Promise<Lock | undefined> {
  const { instance, resources, keys, ttlMs, settings, history } = call;
  const { environment } = instance;
  call.assertOpen();
  // A value of the attempt's own: what is late of it can neither vote in the next nor release that.
  const value = environment.randomValue();
  // Step 1: the current time.
  const since = environment.now();
  const proposed = proposedFence(call, since);
  // Step 2: every node is asked to set the keys to the value, within a time that is short beside the ttl.
  const plain = acquireOperation(keys, value, ttlMs, proposed);
  const round = call.ask(
    stand === undefined
      ? () => plain
      : (node) => takeOperation(stand.keys, value, ttlMs, stand.standing(node), proposed),
    telling(stand, proposed === undefined ? grantsAll(keys.length) : setsLock(keys.length)),
    call.budgetLeftMs,
  );
  history.add(round);
  onRound?.(round);
  // Step 3: the lock is acquired if a majority of the nodes set the keys, in less than the validity time.
  let granted = await call.decided(round);
  let fence: Fence | undefined = proposed;
  if (granted && proposed !== undefined) {
    fence = await acceptedFence(call, round, proposed, value, since);
    granted = fence !== undefined;
  }
  // Step 4: the validity is the ttl less what that took, and what the clocks may drift.
  const term = call.term(since);
  const isOpen = !instance.closing.aborted;
  if (granted && isOpen && validityMs(term, environment.now()) > 0) {
    const lease = Lease.held(environment, term);
    giveToRest(round, { keys, value, lease, fence }, stand !== undefined);
    const { issuer, nodes } = instance;
    const { keyPrefix, queue } = settings;
    // Not by spreading: whatever is done with such a lock takes 4 % longer.
    return new Lock({
      redlock: issuer,
      nodes,
      resources,
      keys,
      value,
      ttlMs,
      keyPrefix,
      queue,
      lease,
      history,
      fence,
      statedExpirationMs: undefined,
    });
  }
  // Step 5: otherwise the keys are released on every node that may have set them.
  releaseFailedAttempt(call, round, value);
  // It is on its way before the caller learns of the failure.
  await endOfTurn(environment);
  call.failure = granted ? "ERR_REDLOCK_VALIDITY" : "ERR_REDLOCK_QUORUM";
  return undefined;
}

/**
 * A free lock never meets the queue. Where others of this process wait in it already, their last attempt
 * stands for this one's first: it would be refused likewise.
 */
async function firstAttempt(call: Acquisition): Promise<Lock | undefined> {
  const { keys, settings, history, instance } = call;
  const others = settings.queue && call.retries > 0 ? instance.queues.lastAttempt(keys) : undefined;
  if (others === undefined) return attempt(call);
  history.add(others.round);
  return undefined;
}

/** A call that was refused waits in the queue; where there can be none, it polls. */
async function wait(call: Acquisition): Promise<Lock | undefined> {
  const { instance, keys, settings, start, history, retries, signals } = call;
  if (retries === 0) return undefined;
  const lineKeys = settings.queue ? instance.queues.keysFor(keys) : undefined;
  const timeLeftMs = (): number => call.budgetLeftMs;
  const look = lookBeforeEnd(call);
  try {
    if (lineKeys === undefined) {
      return await call.attemptAgain(() => attempt(call), retries, signals, timeLeftMs);
    }
    return await instance.queues.wait({
      keys,
      lineKeys,
      start,
      history,
      retries,
      nextDelayMs: () => call.nextDelayMs(),
      mostDelayMs: settings.retryDelay + settings.retryJitter,
      timeLeftMs,
      nodeTimeoutMs: call.nodeTimeoutMs,
      signals,
      attempt: (stand, onRound) => attempt(call, stand, onRound),
      give: (lock, node) => {
        giveKeys(node, partsOf(lock, "acquire"));
      },
    });
  } finally {
    if (look !== undefined) instance.environment.clearTimer(look);
  }
}

/** A vote for is an answer that the operation was applied to every key. */
export function grantsAll(keyCount: number): Question["judge"] {
  return (reply) => {
    const applied = queueReplyIn(reply) === undefined ? appliedTo(reply, keyCount) : 0;
    if (applied === keyCount) return undefined;
    return new ResourceLockedError(
      `The operation was applied to: ${applied} of the ${keyCount} requested resources.`,
    );
  };
}

/** Judges likewise, and tells a waiter what each node says that refuses it. */
function telling(stand: Stand | undefined, judge: Question["judge"]): Question["judge"] {
  if (stand === undefined) return judge;
  return (reply, node) => {
    const told = queueReplyIn(reply);
    if (told !== undefined) stand.onTold(node, told);
    return judge(reply, node);
  };
}
