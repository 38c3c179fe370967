import { asError, inList, invalidType } from "../errors.js";
import { checkSingle } from "../input.js";
import { type Lock, LockLostError, partsOf, type RedlockAbortSignal } from "../lock.js";
import { noticeOnRead, offAbort, onAbort } from "../runtime/aborts.js";
import { sleep, type Timer } from "../runtime/environment.js";
import type { ResolvedSettings, Settings } from "../settings.js";
import { acquire } from "./acquire.js";
import { type Acquisition, acquisition } from "./call.js";
import type { Instance } from "./instance.js";
import { MaxHoldReached } from "./keeper.js";
import { traceAcquire, traceLead } from "./tracing.js";
import { releaseInTime, type Routine } from "./using.js";

/** Settings of every campaign, which has no end of its own. */
export const ENDLESS: Partial<ResolvedSettings> = {
  autoExtend: true,
  acquireTimeout: undefined,
  retryCount: -1,
  shared: false,
  permits: undefined,
};
/** While too few nodes answer, the pause between attempts grows to this share of the ttl, but no further than this. */
const MOST_PAUSE_OF_TTL = 1 / 3;
const MOST_PAUSE_MS = 5000;

/** Checks the input of a campaign, before anything is sent. */
export function campaign(
  instance: Instance,
  name: string,
  ttl: number,
  settings: Settings | undefined,
): Acquisition {
  checkSingle(name, "lead");
  refuseSettings(settings);
  const call = acquisition(instance, "lead", name, ttl, settings, ENDLESS);
  call.mostPauseMs = Math.min(ttl * MOST_PAUSE_OF_TTL, MOST_PAUSE_MS);
  return call;
}

/** Throws a TypeError for settings of a call that no campaign has. Those of the constructor are for other calls. */
function refuseSettings(settings: Settings | undefined): void {
  for (const name of ["acquireTimeout", "retryCount"] as const) {
    const value = settings?.[name];
    if (value === undefined || (name === "retryCount" && value === -1)) continue;
    throw invalidType(
      `lead() takes no ${name}: it campaigns until it leads. To end the campaign, pass a signal, such as AbortSignal.timeout(5000).`,
    );
  }
  const { shared, permits } = settings ?? {};
  if (shared === true || permits !== undefined) {
    throw invalidType(
      `lead() takes no ${permits === undefined ? "shared" : "permits"}: one leads at a time. Use acquire() or using() for several holders.`,
    );
  }
}

/**
 * Campaigns until it leads, and runs `routine` as long as it does. After a loss it campaigns again, once the routine has
 * ended. Resolves with what the routine returned; undefined if it resigned before, or the routine threw because it did.
 *
 * @param call that of the first campaign
 * @param newCall makes that of each further one
 */
export async function lead<T>(
  call: Acquisition,
  newCall: () => Acquisition,
  routine: Routine<T>,
): Promise<T | undefined> {
  const { instance, settings } = call;
  call.assertOpen();
  const hasResigned = (): boolean => call.signals.some(({ aborted }) => aborted);
  while (!hasResigned()) {
    const lock = await traceAcquire(call, acquire).catch((error: unknown) => {
      if (hasResigned()) return undefined;
      throw error;
    });
    if (lock === undefined) break;
    const term = new Term(call, lock);
    try {
      return await traceLead(call, lock, () => serve(term, routine));
    } catch (error) {
      if (term.loss === undefined || error !== term.loss) throw error;
    }
    // With a queue, the release has handed over. Without one, the others must poll before this one attempts again.
    const isRotation = term.loss.cause instanceof MaxHoldReached;
    if (isRotation && !hasQueue(call)) {
      const { retryDelay, retryJitter } = settings;
      const pause = sleep(instance.environment, retryDelay + retryJitter, call.signals);
      await pause.catch(() => undefined);
    }
    call = newCall();
  }
  return undefined;
}

/** Whether the others wait in the queue, as far as this process knows: the release has found out whether nodes refuse it. */
function hasQueue({ instance, settings, keys }: Acquisition): boolean {
  const { queues, nodes } = instance;
  if (!settings.queue || nodes.some(({ refusesQueue }) => refusesQueue)) return false;
  return queues.keysFor(keys) !== undefined;
}

/** Runs the routine for one term, and releases. Throws the loss, unless the routine throws an error of its own. */
async function serve<T>(term: Term, routine: Routine<T>): Promise<T | undefined> {
  const { signal, lock } = term;
  const unwatch = term.watch();
  try {
    const value = signal.aborted ? undefined : await routine(signal, lock);
    term.noticeLoss();
    if (term.loss === undefined) return value;
  } catch (error) {
    term.noticeLoss();
    if (!isAbort(error, signal)) throw error;
  } finally {
    unwatch();
    await term.release();
  }
  if (term.loss !== undefined) throw term.loss;
  return undefined;
}

/** The time for which one lock makes this process the leader. */
class Term {
  readonly lock: Lock;
  /** Why this process leads no more, unless it resigned. */
  loss: LockLostError | undefined;
  readonly #call: Acquisition;
  readonly #controller = new AbortController();
  #rotation: Timer | undefined;
  #released: Promise<void> | undefined;

  constructor(call: Acquisition, lock: Lock) {
    this.#call = call;
    this.lock = lock;
    noticeOnRead(this.signal, () => {
      this.noticeLoss();
    });
  }

  /** Unlike that of the lock, it also aborts when this process resigns. */
  get signal(): RedlockAbortSignal {
    return this.#controller.signal;
  }

  get #isOver(): boolean {
    return this.signal.error !== undefined;
  }

  /** Ends the term in time, whatever the routine does. Returns what stops watching. */
  watch(): () => void {
    const { instance, settings } = this.#call;
    const { environment, draining } = instance;
    const { signal, maxHold } = settings;
    const { signal: lost } = partsOf(this.lock, "lead").handle;
    const onLost = (): void => {
      this.noticeLoss();
    };
    const onDrain = (): void => {
      this.#end(draining.reason);
    };
    const onResign = (): void => {
      this.#end(signal?.reason);
      // The routine learns of it before the next leader can begin.
      void this.release();
    };
    if (maxHold !== undefined) this.#rotateAt(environment.monotonicMs() + maxHold, maxHold);
    const watched = [
      [lost, onLost],
      [draining, onDrain],
      ...(signal === undefined ? [] : [[signal, onResign] as const]),
    ] as const;
    for (const [each, callback] of watched) {
      onAbort(each, callback);
      // It may have aborted while the grant was on its way.
      if (each.aborted) callback();
    }
    return () => {
      if (this.#rotation !== undefined) environment.clearTimer(this.#rotation);
      for (const [each, callback] of watched) offAbort(each, callback);
    };
  }

  #rotateAt(endMs: number, maxHoldMs: number): void {
    const { environment } = this.#call.instance;
    const leftMs = endMs - environment.monotonicMs();
    if (leftMs <= 0) this.#lose(this.#afterMaxHold(maxHoldMs));
    else {
      // No timer lasts longer than 24 days.
      this.#rotation = environment.setTimer(() => {
        this.#rotateAt(endMs, maxHoldMs);
      }, Math.ceil(leftMs));
    }
  }

  /** Notices that the lock is lost. Reading the lock does it where no timer has fired yet. */
  noticeLoss(): void {
    const { loss } = partsOf(this.lock, "lead").handle;
    if (loss !== undefined) this.#lose(loss);
  }

  /** Releases once, and waits for it no longer than for one node. */
  release(): Promise<void> {
    return (this.#released ??= releaseInTime(this.#call, this.lock));
  }

  #lose(loss: LockLostError): void {
    if (this.#isOver) return;
    this.loss = loss;
    this.#end(loss);
  }

  #end(reason: unknown): void {
    if (this.#isOver) return;
    this.signal.error = asError(reason);
    this.#controller.abort(reason);
  }

  /** The lock is held until the routine ends, or its validity does: it is not extended any more. */
  #afterMaxHold(maxHoldMs: number): LockLostError {
    const cause = new MaxHoldReached(maxHoldMs);
    const leader = inList(this.lock.resources);
    return new LockLostError(
      `The term as leader of ${leader} is over: ${cause.message}`,
      this.lock,
      {
        cause,
      },
    );
  }
}

/** The names of the errors that functions throw because their signal aborted: Node's, fetch's and axios's. */
const ABORTS: readonly unknown[] = ["AbortError", "CanceledError"];

/** Whether a routine threw because its signal has aborted: the reason, an AbortError, or an error that one of them caused. */
function isAbort(thrown: unknown, { aborted, reason, error: told }: RedlockAbortSignal): boolean {
  if (!aborted) return false;
  let cause = thrown;
  for (let depth = 0; depth < 10 && cause !== undefined; depth++) {
    if (cause === reason || cause === told) return true;
    if (typeof cause !== "object" || cause === null) return false;
    const { name, code } = cause as { readonly name?: unknown; readonly code?: unknown };
    // An extension by the routine finds that the lock has ended.
    if (ABORTS.includes(name) || code === "ERR_REDLOCK_EXPIRED") return true;
    ({ cause } = cause as { readonly cause?: unknown });
  }
  return false;
}
