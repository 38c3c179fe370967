import type { Alarm, Alarms } from "../runtime/alarms.js";
import type { Environment } from "../runtime/environment.js";
import { inWords, isClosed } from "../errors.js";
import type { Lease } from "./lease.js";
import { type Lock, LockLostError } from "../lock.js";

/** Aborts when the lock of `using` is lost. `error` is then the same LockLostError as `reason`. */
export type RedlockAbortSignal = AbortSignal & {
  /** The LockLostError, once the signal has aborted. */
  error?: Error;
};

/** The lease is compared with both clocks at least this often. */
const LONGEST_CHECK_MS = 1000;

/**
 * How long before the end of the validity the loss is reported, since timers fire late: 1 % of the ttl, at least 2 and
 * at most 10 ms. Measured: timers were up to 3.5 ms late on a busy machine.
 */
function timerSlackMs(ttlMs: number): number {
  return Math.min(Math.max(2, ttlMs / 100), 10);
}

export interface Keeping {
  readonly lock: Lock;
  readonly lease: Lease;
  /** The lock is extended when this much validity is left. */
  readonly thresholdMs: number;
  /** The pause after a failed extension. */
  readonly pauseMs: () => number;
  /** Tries to extend once, for at most `limitMs`. Resolves with the error if it failed. */
  readonly extend: (limitMs: number) => Promise<Error | undefined>;
}

/**
 * Keeps a lock alive by extending it in time. A timer, not a reply, notices the loss: whatever the nodes do, the signal
 * aborts no later than the validity ends.
 */
export class Keeper {
  readonly #keeping: Keeping;
  readonly #alarms: Alarms;
  readonly #environment: Environment;
  readonly #controller = new AbortController();
  #alarm: Alarm | undefined;
  #extending = false;
  #nextTryMs = 0;
  #lastFailure: Error | undefined;
  #stopped = false;

  constructor(keeping: Keeping, alarms: Alarms, environment: Environment) {
    this.#keeping = keeping;
    this.#alarms = alarms;
    this.#environment = environment;
    keeping.lease.onLoss = this.#sayLost;
    this.#check();
  }

  get signal(): RedlockAbortSignal {
    return this.#controller.signal;
  }

  /** Stops extending, after a last look at the clocks. Returns the loss, if there was one. */
  stop(): Error | undefined {
    this.#stopped = true;
    this.#cancelAlarm();
    return this.#keeping.lease.open ? undefined : this.signal.error;
  }

  readonly #check = (): void => {
    this.#cancelAlarm();
    if (this.#stopped) return;
    const { lock, lease, thresholdMs } = this.#keeping;
    const leftMs = lease.remainingMs;
    const slackMs = timerSlackMs(lock.ttl);
    if (leftMs <= slackMs) lease.lose();
    if (!lease.open) return;

    const untilThresholdMs = leftMs - thresholdMs;
    const pauseLeftMs = this.#nextTryMs - this.#environment.monotonicMs();
    // An alarm may ring early, together with those of other locks. That must not cut a pause short.
    const isDue = untilThresholdMs < slackMs && pauseLeftMs <= 0;
    if (isDue && !this.#extending) void this.#extend(leftMs / 3);
    const wakeMs = Math.min(
      LONGEST_CHECK_MS,
      leftMs - slackMs,
      this.#extending ? Infinity : Math.max(untilThresholdMs, pauseLeftMs),
    );
    this.#alarm = this.#alarms.set(wakeMs, slackMs, this.#check);
  };

  async #extend(limitMs: number): Promise<void> {
    this.#extending = true;
    this.#lastFailure = await this.#keeping.extend(limitMs);
    this.#extending = false;
    const pauseMs =
      this.#lastFailure === undefined
        ? 0
        : Math.min(this.#keeping.pauseMs(), this.#keeping.lease.remainingMs / 4);
    this.#nextTryMs = this.#environment.monotonicMs() + pauseMs;
    this.#check();
  }

  readonly #sayLost = (): void => {
    this.#cancelAlarm();
    const { lock, lease } = this.#keeping;
    const cause = lease.lossCause ?? this.#lastFailure;
    const error = new LockLostError(
      `The lock on ${lock.resources.join(", ")}, with a ttl of ${inWords(lock.ttl)}, was lost: ${whyLost(cause)}`,
      lock,
      cause && { cause },
    );
    this.signal.error = error;
    this.#controller.abort(error);
  };

  #cancelAlarm(): void {
    if (this.#alarm !== undefined) this.#alarms.cancel(this.#alarm);
    this.#alarm = undefined;
  }
}

function whyLost(cause: Error | undefined): string {
  if (cause === undefined) {
    return "its validity ended before it was extended; was the event loop blocked, or the machine suspended?";
  }
  if (isClosed(cause)) {
    return "its Redlock was closed before the routine ended. Let what runs under its locks end before quit() or disposal.";
  }
  return `it could not be extended in time. ${cause.message}`;
}
