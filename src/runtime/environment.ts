import { randomFillSync } from "node:crypto";
import { setImmediate } from "node:timers";
import { offAbort, onAbort } from "./aborts.js";

/** One reading of both clocks. The monotonic clock never jumps; the wall clock also counts time while suspended. */
export interface Instant {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/** A pending timer. Only the environment that made it knows what it is. */
export type Timer = object;

/** Clocks, timers and randomness. Each Redlock has its own, so that a simulator can control time and chance. */
export interface Environment {
  now(): Instant;
  monotonicMs(): number;
  setTimer(callback: () => void, delayMs: number): Timer;
  /** Sets a timer that does not keep the process alive. */
  setBackgroundTimer(callback: () => void, delayMs: number): Timer;
  clearTimer(timer: Timer): void;
  /** Calls back at the end of the current event-loop turn, after its microtasks. */
  endOfTurn(callback: () => void): void;
  /** Calls back after the event loop has read what has already arrived on the sockets. */
  afterPoll(callback: () => void): void;
  /** Returns a random number of at least 0 and below 1. */
  random(): number;
  /** Returns a unique lock value: 16 random bytes in hexadecimal. */
  randomValue(): string;
}

/** Node fires a timer with a longer delay at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const VALUE_BYTES = 16;
const pool = Buffer.alloc(256 * VALUE_BYTES);
let poolUsed = pool.length;

function randomValue(): string {
  if (poolUsed === pool.length) {
    randomFillSync(pool);
    poolUsed = 0;
  }
  poolUsed += VALUE_BYTES;
  return pool.toString("hex", poolUsed - VALUE_BYTES, poolUsed);
}

/**
 * The real functions, taken when this file is loaded. A test with fake timers controls the library's clocks and timers,
 * as it should. But the end of a turn, and the reading of sockets, must stay real: if a faked turn never ended, this call
 * and all later ones would never resolve.
 *
 * Jest can put fake timers in place of the globals before it loads this file (`fakeTimers.enableGlobally`). They have the
 * property `clock`. The functions of Node's module stay real, and an immediate also comes after all microtasks.
 */
const realSetImmediate = setImmediate;
const isFake = (owner: object, name: string): boolean =>
  "clock" in Object(Reflect.get(owner, name));
const realNextTick = isFake(process, "nextTick")
  ? realSetImmediate
  : process.nextTick.bind(process);
const realQueueMicrotask = isFake(globalThis, "queueMicrotask") ? realSetImmediate : queueMicrotask;

export const systemEnvironment: Environment = {
  now: () => ({ monotonicMs: performance.now(), wallMs: Date.now() }),
  monotonicMs: () => performance.now(),
  setTimer: (callback, delayMs) => setTimeout(callback, Math.min(delayMs, LONGEST_TIMER_MS)),
  setBackgroundTimer: (callback, delayMs) => {
    const timer: Partial<NodeJS.Timeout> = setTimeout(
      callback,
      Math.min(delayMs, LONGEST_TIMER_MS),
    );
    // In jsdom a timer is a number.
    timer.unref?.();
    return timer;
  },
  clearTimer: (timer) => {
    clearTimeout(timer as NodeJS.Timeout);
  },
  // Called from a microtask, a tick runs after all microtasks.
  endOfTurn: (callback) => {
    realNextTick(callback);
  },
  // The event loop runs timers before it polls the sockets, and immediates after.
  afterPoll: (callback) => {
    realSetImmediate(callback);
  },
  random: Math.random,
  randomValue,
};

/** Calls back in a microtask of its own, so that an exception of the caller's code cannot disturb the library. */
export function inOwnTurn(callback: () => void): void {
  realQueueMicrotask(callback);
}

/** Resolves at the end of the current event-loop turn. */
export async function endOfTurn(environment: Environment): Promise<void> {
  // Called from the callback of a timer or an event, a tick would run before all microtasks.
  await Promise.resolve();
  await new Promise<void>((resolve) => {
    environment.endOfTurn(resolve);
  });
}

/** Resolves after the event loop has read what has already arrived on the sockets. */
export function afterPoll(environment: Environment): Promise<void> {
  return new Promise((resolve) => {
    environment.afterPoll(resolve);
  });
}

/**
 * Waits for `delayMs`; for Infinity without a timer, which would keep the process alive. Rejects with a signal's reason as
 * soon as one aborts.
 *
 * @param onSleep receives the function that ends the wait early
 */
export function sleep(
  environment: Environment,
  delayMs: number,
  signals: readonly AbortSignal[],
  onSleep?: (wake: () => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    // One closure for all ends: thousands may sleep.
    const end = (): void => {
      if (timer !== undefined) environment.clearTimer(timer);
      for (const signal of signals) offAbort(signal, end);
      const aborted = signals.find((signal) => signal.aborted);
      if (aborted === undefined) resolve();
      // The caller chose the reason; it need not be an Error.
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      else reject(aborted.reason);
    };
    const timer = delayMs === Infinity ? undefined : environment.setTimer(end, delayMs);
    onSleep?.(end);
    for (const signal of signals) onAbort(signal, end);
    if (signals.some(({ aborted }) => aborted)) end();
  });
}

/** Returns the environment's timers for p-timeout. When one fires, replies that have already arrived are read first. */
export function pTimeoutTimers(environment: Environment): {
  setTimeout: typeof setTimeout;
  clearTimeout: typeof clearTimeout;
} {
  return {
    setTimeout: ((callback: () => void, delayMs: number) =>
      environment.setTimer(() => {
        environment.afterPoll(callback);
      }, delayMs)) as typeof setTimeout,
    clearTimeout: ((timer: Timer | undefined) => {
      if (timer !== undefined) environment.clearTimer(timer);
    }) as typeof clearTimeout,
  };
}
