import { setMaxListeners } from "node:events";

type Callbacks = Set<() => void>;

interface Watch {
  readonly callbacks: Callbacks;
  readonly callAll: () => void;
}

const watches = new WeakMap<AbortSignal, Watch>();

/**
 * Calls back when the signal aborts. All callbacks of a signal share one listener: a signal searches all its listeners
 * whenever one is added or removed, so that with thousands, each would cost more than the one before.
 */
export function onAbort(signal: AbortSignal, callback: () => void): void {
  let watch = watches.get(signal);
  if (watch === undefined) watches.set(signal, (watch = newWatch()));
  if (watch.callbacks.size === 0) signal.addEventListener("abort", watch.callAll);
  watch.callbacks.add(callback);
}

/** Lets any number of listeners wait for the signal without a warning. */
export function allowManyListeners(signal: AbortSignal): void {
  try {
    setMaxListeners(0, signal);
  } catch {
    // Not a signal of Node but, for example, of jsdom, which does not warn.
  }
}

/** Undoes `onAbort`. */
export function offAbort(signal: AbortSignal, callback: () => void): void {
  const watch = watches.get(signal);
  if (watch?.callbacks.delete(callback) !== true || watch.callbacks.size > 0) return;
  signal.removeEventListener("abort", watch.callAll);
}

// A property: with a WeakMap, the collector made `using` cost half as much again.
const notice = Symbol("notice");

interface Noticing extends AbortSignal {
  [notice]: () => void;
}

// One prototype for all signals: to define the two on each costs several times as much as the signal itself.
const usual = AbortSignal.prototype;
const noticing = Object.create(usual, {
  aborted: {
    get(this: Noticing): boolean {
      this[notice]();
      return Reflect.get(usual, "aborted", this);
    },
  },
  throwIfAborted: {
    value(this: AbortSignal): void {
      if (this.aborted) throw this.reason;
    },
  },
}) as object;

/** Calls `onRead` whenever the signal is asked whether it has aborted. It may abort the signal just then. */
export function noticeOnRead(signal: AbortSignal, onRead: () => void): void {
  // Not a signal whose class somebody put in place of the usual one later.
  if (Object.getPrototypeOf(signal) !== usual) return;
  (signal as Noticing)[notice] = onRead;
  Object.setPrototypeOf(signal, noticing);
}

function newWatch(): Watch {
  const callbacks: Callbacks = new Set();
  return {
    callbacks,
    callAll: () => {
      for (const callback of callbacks) callback();
    },
  };
}
