import { randomFillSync } from "node:crypto";
import { offAbort, onAbort } from "./aborts.js";

/** One reading of both clocks. The monotonic clock orders; the wall clock also counts a suspended machine's time. */
export interface Instant {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/** A pending timer, as the environment that made it knows it. */
export type Timer = object;

/**
 * Everything the library takes from outside that is neither its input nor a node: clocks, timers,
 * randomness. Each Redlock has one, so that a simulator can own time and chance.
 */
export interface Environment {
  now(): Instant;
  monotonicMs(): number;
  setTimer(callback: () => void, delayMs: number): Timer;
  /** One that does not keep the process alive. */
  setBackgroundTimer(callback: () => void, delayMs: number): Timer;
  clearTimer(timer: Timer): void;
  /** Calls back at the end of the present turn of the event loop, once all that it caused has run. */
  endOfTurn(callback: () => void): void;
  /** Calls back once what already waits in the sockets has been read. */
  afterPoll(callback: () => void): void;
  /** At least 0 and below 1. */
  random(): number;
  /** A lock value nobody else has: 16 random bytes, in hexadecimal. */
  randomValue(): string;
}

/** Above this Node fires a timer at once. */
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
 * The functions as they are when this file is loaded. A test that puts fake timers in their place moves the
 * library's clocks and timers with them, as it should. But a turn that never ends would leave this call and all
 * later ones without an answer, and sockets are read by the real event loop.
 */
const nextTick = process.nextTick.bind(process);
const realSetImmediate = setImmediate;
const realQueueMicrotask = queueMicrotask;

export const systemEnvironment: Environment = {
  now: () => ({ monotonicMs: performance.now(), wallMs: Date.now() }),
  monotonicMs: () => performance.now(),
  setTimer: (callback, delayMs) => setTimeout(callback, Math.min(delayMs, LONGEST_TIMER_MS)),
  setBackgroundTimer: (callback, delayMs) =>
    setTimeout(callback, Math.min(delayMs, LONGEST_TIMER_MS)).unref(),
  clearTimer: (timer) => {
    clearTimeout(timer as NodeJS.Timeout);
  },
  // From a microtask, the ticks run after all microtasks.
  endOfTurn: (callback) => {
    nextTick(callback);
  },
  // A timer runs before the loop polls its sockets, an immediate after it.
  afterPoll: (callback) => {
    realSetImmediate(callback);
  },
  random: Math.random,
  randomValue,
};

/** Calls back in a turn of its own, so that what a caller's code throws breaks nothing of the library's. */
export function inOwnTurn(callback: () => void): void {
  realQueueMicrotask(callback);
}

export async function endOfTurn(environment: Environment): Promise<void> {
  // In a timer's or an event's callback, a tick would run before all microtasks.
  await Promise.resolve();
  await new Promise<void>((resolve) => {
    environment.endOfTurn(resolve);
  });
}

/** Lets the event loop read what has arrived. */
export function afterPoll(environment: Environment): Promise<void> {
  return new Promise((resolve) => {
    environment.afterPoll(resolve);
  });
}

/**
 * Waits; rejects with a signal's reason as soon as one aborts.
 *
 * @param onSleep is given what ends the wait early
 */
export function sleep(
  environment: Environment,
  delayMs: number,
  signals: readonly AbortSignal[],
  onSleep?: (wake: () => void) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      environment.clearTimer(timer);
      for (const signal of signals) offAbort(signal, abort);
    };
    const abort = (): void => {
      end();
      // The caller chose the reason; it need not be an Error.
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      reject(signals.find(({ aborted }) => aborted)?.reason);
    };
    const wake = (): void => {
      end();
      resolve();
    };
    const timer = environment.setTimer(wake, delayMs);
    onSleep?.(wake);
    for (const signal of signals) onAbort(signal, abort);
    if (signals.some(({ aborted }) => aborted)) abort();
  });
}

/** The environment's timers in the form that p-timeout takes; they let answers that already came be read first. */
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
