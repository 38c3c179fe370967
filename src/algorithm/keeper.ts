import { AsyncResource } from "node:async_hooks";
import { inWords } from "../errors.js";
import type { Alarm, Alarms } from "../runtime/alarms.js";
import type { Environment } from "../runtime/environment.js";
import type { Lease } from "./lease.js";

/** The lease is compared with both clocks at least this often. */
const LONGEST_CHECK_MS = 1000;

/**
 * How long before the end of the validity the loss is reported, since timers fire late: 1 % of the ttl, at least 2 and
 * at most 10 ms. Measured: timers were up to 3.5 ms late on a busy machine.
 */
function timerSlackMs(ttlMs: number): number {
  return Math.min(Math.max(2, ttlMs / 100), 10);
}

/** How a lock is extended. */
export interface Extending {
  /** The lock is extended when this much validity is left. */
  readonly thresholdMs: number;
  /** No extension begins after this time since now; undefined for no limit. */
  readonly maxHoldMs?: number | undefined;
  /** The pause after a failed extension. */
  readonly pauseMs: () => number;
  /** Tries to extend once, for at most `limitMs`. Resolves with the error if it failed. */
  readonly extend: (limitMs: number) => Promise<Error | undefined>;
}

/** The cause of the loss of a lock that was not extended any more. */
export class MaxHoldReached extends Error {
  constructor(maxHoldMs: number) {
    super(
      `it was held for its maxHold of ${inWords(maxHoldMs)}, after which the library does not extend it.`,
    );
    // A timer finds it: no frame of the stack tells anything.
    if (this.stack !== undefined) this.stack = `Error: ${this.message}`;
  }
}

/**
 * Watches a lock, and keeps it alive by extending it in time if it is to be kept. A timer, not a reply, notices the loss:
 * whatever the nodes do, the lease is lost no later than the validity ends.
 */
export class Keeper {
  readonly #lease: Lease;
  readonly #alarms: Alarms;
  readonly #environment: Environment;
  readonly #extending: Extending | undefined;
  readonly #sinceMs: number;
  /** One timer rings for many locks. The listeners of each are called in the asynchronous context of its own call. */
  readonly #context = new AsyncResource("redlock-quorum");
  #alarm: Alarm | undefined;
  #isExtending = false;
  #nextTryMs = 0;
  #lastFailure: Error | undefined;
  #isStopped = false;

  constructor(lease: Lease, alarms: Alarms, environment: Environment, extending?: Extending) {
    this.#lease = lease;
    this.#alarms = alarms;
    this.#environment = environment;
    this.#extending = extending;
    this.#sinceMs = environment.monotonicMs();
    this.#check();
  }

  /** Why the lock was not extended, if the library knows. */
  get failure(): Error | undefined {
    if (!this.#isHeldLongEnough) return this.#lastFailure;
    return new MaxHoldReached(this.#extending?.maxHoldMs ?? 0);
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelAlarm();
  }

  /**
   * Looks at the renewed lease before it can end: an adopted lock has become valid and has no alarm yet; and after a step
   * of the wall clock, a shorter ttl may end before the alarm that was set for the old one.
   */
  wake(): void {
    const alarmInMs = (this.#alarm?.bell.atMs ?? Infinity) - this.#environment.monotonicMs();
    if (alarmInMs > this.#lease.remainingMs - timerSlackMs(this.#lease.ttlMs ?? 0)) this.#check();
  }

  get #isHeldLongEnough(): boolean {
    const { maxHoldMs = Infinity } = this.#extending ?? {};
    return this.#environment.monotonicMs() - this.#sinceMs >= maxHoldMs;
  }

  readonly #check = (): void => {
    this.#context.runInAsyncScope(this.#look, this);
  };

  #look(): void {
    this.#cancelAlarm();
    if (this.#isStopped || this.#lease.adopted) return;
    const leftMs = this.#lease.remainingMs;
    const slackMs = timerSlackMs(this.#lease.ttlMs ?? 0);
    if (leftMs <= slackMs) this.#lease.lose();
    if (!this.#lease.open) return;
    const wakeMs = Math.min(
      LONGEST_CHECK_MS,
      leftMs - slackMs,
      this.#extendIfDue(leftMs, slackMs) ?? Infinity,
    );
    this.#alarm = this.#alarms.set(wakeMs, slackMs, this.#check);
  }

  /** Returns in how many ms the next extension is due; undefined while there is none to wait for. */
  #extendIfDue(leftMs: number, slackMs: number): number | undefined {
    if (this.#extending === undefined || this.#isHeldLongEnough) return undefined;
    const untilThresholdMs = leftMs - this.#extending.thresholdMs;
    const pauseLeftMs = this.#nextTryMs - this.#environment.monotonicMs();
    // An alarm may ring early, together with those of other locks. That must not cut a pause short.
    const isDue = untilThresholdMs < slackMs && pauseLeftMs <= 0;
    if (isDue && !this.#isExtending) void this.#extend(this.#extending, leftMs / 3);
    return this.#isExtending ? undefined : Math.max(untilThresholdMs, pauseLeftMs);
  }

  async #extend({ extend, pauseMs }: Extending, limitMs: number): Promise<void> {
    this.#isExtending = true;
    this.#lastFailure = await extend(limitMs);
    this.#isExtending = false;
    const failed = this.#lastFailure !== undefined;
    const pause = failed ? Math.min(pauseMs(), this.#lease.remainingMs / 4) : 0;
    this.#nextTryMs = this.#environment.monotonicMs() + pause;
    this.#check();
  }

  #cancelAlarm(): void {
    if (this.#alarm !== undefined) this.#alarms.cancel(this.#alarm);
    this.#alarm = undefined;
  }
}
