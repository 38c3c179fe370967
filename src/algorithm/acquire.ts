import { Lock } from "../lock.js";
import type { Fence } from "../operations/accept-fence.js";
import { queueReplyIn } from "../operations/queue.js";
import type { Question } from "../quorum/ballot.js";
import type { Round } from "../quorum/round.js";
import { endOfTurn } from "../runtime/environment.js";
import type { QueuedAttempt } from "../waiting/wait.js";
import type { Acquisition } from "./call.js";
import { whyNotAcquired } from "./explain.js";
import { acceptedFence, proposedFence, setsLock } from "./fence.js";
import { giveToRest, type Holding } from "./give.js";
import { grantsAll } from "./grants-all.js";
import { Lease } from "./lease.js";
import { Handle } from "./handle.js";
import { keep } from "./keep.js";
import { attemptSlots, isTakenIn } from "./permits.js";
import { lookBeforeEnd } from "./look.js";
import { QueuedCall } from "./queued-call.js";
import { releaseFailedAttempt } from "./release.js";
import { attemptRequest } from "./requests.js";
import { publishWaiting } from "./tracing.js";
import { validityMs } from "./validity.js";

/** Acquires: attempts once, then waits as the settings say. Throws an ExecutionError that says why it failed. */
export async function acquire(call: Acquisition): Promise<Lock> {
  call.settings.signal?.throwIfAborted();
  const lock = (await firstAttempt(call)) ?? (await wait(call));
  if (lock !== undefined) return acquired(call, lock);
  const isTimed = call.settings.acquireTimeout !== undefined;
  throw await whyNotAcquired(call, acquire, isTimed ? "ERR_REDLOCK_TIMEOUT" : undefined);
}

/** Attempts once. Returns null if others hold the lock. */
export async function tryAcquire(call: Acquisition): Promise<Lock | null> {
  const { settings, history } = call;
  settings.signal?.throwIfAborted();
  const lock = await attemptOnce(call);
  if (lock !== undefined) return acquired(call, lock);
  const { last } = history;
  const isTaken =
    call.failure === "ERR_REDLOCK_QUORUM" &&
    last?.wasCut === false &&
    (await call.unlessEnded(isTakenIn(last, call)));
  if (isTaken && settings.signal?.aborted !== true) return null;
  throw await whyNotAcquired(call, tryAcquire);
}

function acquired(call: Acquisition, lock: Lock): Lock {
  const { instance, settings, history } = call;
  // Closing has just released a lock that the library extends.
  if (settings.autoExtend) instance.closing.throwIfAborted();
  instance.announce("acquired", () => ({
    lock,
    waitedMs: call.elapsedMs,
    attempts: history.count,
  }));
  return lock;
}

/** Attempts once without the queue; of permits, one free slot after the other. */
function attemptOnce(call: Acquisition): Promise<Lock | undefined> {
  const { permits } = call;
  return permits === undefined ? attempt(call) : attemptSlots(call, permits, attempt);
}

/**
 * Makes one attempt, in the five steps of the Redlock description. The attempt of a waiter in the queue (`queued`)
 * sends another command; the votes are counted in the same way.
 */
async function attempt(
  call: Acquisition,
  queued?: QueuedAttempt,
  onRound?: (round: Round) => void,
): Promise<Lock | undefined> {
  const { instance, history, permits, settings } = call;
  const { shared } = settings;
  const { environment } = instance;
  call.assertOpen();
  // A permit is a lock on the key of its slot.
  const permit = permits?.choose();
  const keys = permit === undefined ? call.keys : call.keys.slice(permit, permit + 1);
  // Each attempt has its own value, so that a late reply or release of this attempt cannot touch the next one.
  const value = call.newValue();
  // Step 1: the current time.
  const since = environment.now();
  const proposed = proposedFence(call, since);
  // Step 2: ask every node to set the keys to the value, with a timeout that is short compared to the ttl.
  const round = call.ask(
    attemptRequest(call, { keys, value, shared, permit, fence: proposed }, queued),
    passingOn(queued, proposed === undefined ? grantsAll(keys.length) : setsLock(keys.length)),
    call.attemptLeftMs,
  );
  history.add(round);
  onRound?.(round);
  // Step 3: the lock is acquired if a majority of the nodes set the keys within the validity time.
  let granted = await call.decided(round);
  let fence: Fence | undefined = proposed;
  if (granted && proposed !== undefined) {
    fence = await acceptedFence(call, round, proposed, value, since);
    granted = fence !== undefined;
  }
  // Step 4: the validity is the ttl, minus the time elapsed, minus the clock drift allowance.
  const term = call.term(since);
  const isOpen = !call.end.aborted;
  if (granted && isOpen && validityMs(term, environment.now()) > 0) {
    const lease = Lease.held(environment, term);
    const holding: Holding = { keys, value, lease, shared, permit, fence };
    giveToRest(round, holding, queued !== undefined);
    return lockOf(call, holding);
  }
  // Step 5: otherwise release the keys on every node that may have set them.
  releaseFailedAttempt(call, keys, round, value);
  // The release is on its way before the caller learns of the failure.
  await endOfTurn(environment);
  call.failure = granted ? "ERR_REDLOCK_VALIDITY" : "ERR_REDLOCK_QUORUM";
  return undefined;
}

function lockOf(call: Acquisition, holding: Holding): Lock {
  const { keys, value, lease, shared, permit, fence } = holding;
  const { instance, resources, ttlMs, settings, history } = call;
  const { issuer, nodes } = instance;
  const { keyPrefix, queue } = settings;
  const makeLock = (handle: Handle): Lock =>
    // Written out: with a spread, every later use of the lock took 4 % longer.
    new Lock({
      redlock: issuer,
      nodes,
      resources,
      keys,
      value,
      ttlMs,
      keyPrefix,
      queue,
      lease,
      handle,
      history,
      shared,
      fence,
      permit,
      statedExpirationMs: undefined,
    });
  const handle = new Handle(instance, lease, makeLock);
  if (settings.autoExtend) keep(call, handle);
  return handle.lock;
}

/**
 * Attempts without the queue, so that a free lock never touches it. If other callers of this process already wait
 * for the same, their last attempt counts as this call's first: the nodes would refuse it in the same way.
 */
function firstAttempt(call: Acquisition): Promise<Lock | undefined> {
  const { settings, history, instance } = call;
  // Of several readers, one may be refused and the next let in.
  const sharesAttempts = settings.queue && !settings.shared && call.retries > 0;
  const others = sharesAttempts ? instance.queues.lastAttempt(call) : undefined;
  if (others === undefined) return attemptOnce(call);
  history.addOfOther(others.round);
  return Promise.resolve(undefined);
}

/** Waits after a refused attempt: in the queue or, if the keys can have no queue, by polling. */
async function wait(call: Acquisition): Promise<Lock | undefined> {
  const { instance, keys, settings, retries, signals } = call;
  if (retries === 0 || call.budgetLeftMs <= 0) return undefined;
  for (const signal of signals) signal.throwIfAborted();
  instance.announce("waiting", () => ({ resources: [...call.resources] }));
  if (call.permits !== undefined) call.permits.endMs = Infinity;
  const canQueue = settings.queue && instance.queues.keysFor(keys) !== undefined;
  const look = lookBeforeEnd(call);
  call.isWaiting = true;
  publishWaiting(call);
  try {
    if (!canQueue) {
      const timeLeftMs = (): number => call.budgetLeftMs;
      return await call.attemptAgain(() => attemptOnce(call), retries, signals, timeLeftMs);
    }
    return await instance.queues.wait(new QueuedCall(call, attempt));
  } finally {
    call.isWaiting = false;
    if (look !== undefined) instance.environment.clearTimer(look);
  }
}

/** Judges as `judge` does, and passes each refusing node's reply about the queue on to the waiter. */
function passingOn(queued: QueuedAttempt | undefined, judge: Question["judge"]): Question["judge"] {
  if (queued === undefined) return judge;
  return (reply, node) => {
    const queueReply = queueReplyIn(reply);
    if (queueReply !== undefined) queued.onQueueReply(node, queueReply);
    return judge(reply, node);
  };
}
