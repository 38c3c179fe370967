import { AsyncLocalStorage } from "node:async_hooks";
import type { RedlockAbortSignal } from "../lock.js";
import { invalidType } from "../errors.js";
import type { Lock } from "../lock.js";

interface Held {
  readonly signal: RedlockAbortSignal;
  readonly lock: Lock;
}

// The signal is no argument of the method: Nest fills the arguments of handlers, and callers of a service should not see
// that a method is locked. It belongs to the asynchronous flow of one call, so calls that run at once cannot mix theirs.
const flow = new AsyncLocalStorage<{ held: Held | undefined }>();

/** Runs a method so that it, and all that it calls and awaits, can ask for the lock. */
export async function runHolding<T>(held: Held, method: () => Promise<T> | T): Promise<T> {
  const current: { held: Held | undefined } = { held };
  try {
    return await flow.run(current, method);
  } finally {
    // What was started and not awaited goes on in this flow, but without the lock.
    current.held = undefined;
  }
}

/**
 * Returns the signal that aborts when the lock of the running `@Locked` method is lost. Works in the method and in
 * everything that it calls and awaits. If locked methods call each other, it is the signal of the innermost.
 *
 * @throws TypeError outside a locked method, and after it has ended
 * @example
 * ```ts
 * @Locked((id: string) => `invoice:${id}`, 10_000)
 * async pay(id: string): Promise<void> {
 *   const invoice = await this.load(id);
 *   lockSignal().throwIfAborted(); // before each write
 *   await this.save({ ...invoice, paid: true });
 * }
 * ```
 */
export function lockSignal(): RedlockAbortSignal {
  return heldIn("lockSignal").signal;
}

/**
 * Returns the lock of the running `@Locked` method, for its fencing token: `currentLock().fence`. As {@link lockSignal},
 * it works in everything that the method calls and awaits.
 *
 * @throws TypeError outside a locked method, and after it has ended
 */
export function currentLock(): Lock {
  return heldIn("currentLock").lock;
}

function heldIn(call: string): Held {
  const current = flow.getStore();
  if (current?.held !== undefined) return current.held;
  throw invalidType(
    current === undefined
      ? `${call}() was called outside a @Locked method: there is no lock. Call it in the method, or in what the method calls.`
      : `${call}() was called after its @Locked method had ended: the lock is released. Await in the method all that it starts.`,
  );
}
