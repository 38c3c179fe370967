import pTimeout from "p-timeout";
import { invalidType, kindOf } from "../errors.js";
import { type Lock, partsOf, type RedlockAbortSignal } from "../lock.js";
import { pTimeoutTimers } from "../runtime/environment.js";
import type { Settings } from "../settings.js";
import { acquire } from "./acquire.js";
import type { Acquisition } from "./call.js";
import { Release, release, releaseSettings } from "./release.js";
import { traceAcquire, traceRelease } from "./tracing.js";

/** A function that `using` or `lead` runs under a lock. */
export type Routine<T> = (signal: RedlockAbortSignal, lock: Lock) => Promise<T> | T;

/** Returns the settings and the routine of a call of `using` or `lead`, which may leave out the settings. */
export function routineArguments<T>(
  call: "using" | "lead",
  settingsOrRoutine: Settings | Routine<T>,
  optionalRoutine: unknown,
): [Settings | undefined, Routine<T>] {
  if (typeof settingsOrRoutine === "function") {
    if (optionalRoutine === undefined) return [undefined, settingsOrRoutine];
    throw invalidType(
      `${call}() has a routine as its third argument, so it takes no fourth one, but got ${kindOf(optionalRoutine)}. ` +
        `Pass settings before the routine: ${call}(${call === "using" ? "resources" : "name"}, ttl, settings, routine).`,
    );
  }
  if (typeof optionalRoutine === "function") {
    return [settingsOrRoutine, optionalRoutine as Routine<T>];
  }
  throw invalidType(
    `INVARIANT: routine is not a function. ${call}() needs one to run under the lock, but got ${kindOf(optionalRoutine)}.`,
  );
}

/** Acquires the lock, keeps it while `routine` runs, and releases it. Throws what the routine throws, or the loss. */
export async function using<T>(call: Acquisition, routine: Routine<T>): Promise<T> {
  const lock = await traceAcquire(call, acquire);
  const { handle } = partsOf(lock, "using");
  try {
    const value = await routine(handle.signal, lock);
    const { loss } = handle;
    if (loss !== undefined) throw loss;
    return value;
  } finally {
    await releaseInTime(call, lock);
  }
}

/** Releases, but waits for it no longer than one node's timeout: the caller wants the routine's result. */
export async function releaseInTime(call: Acquisition, lock: Lock): Promise<void> {
  const { instance, settings } = call;
  const { nodeTimeout } = settings;
  const base = releaseSettings(instance, partsOf(lock, "using"));
  const own = { ...base, retryCount: 0, ...(nodeTimeout === undefined ? {} : { nodeTimeout }) };
  const ending = new Release(instance, lock, own);
  await pTimeout(traceRelease(ending, release), {
    milliseconds: ending.longestNodeTimeoutMs,
    customTimers: pTimeoutTimers(instance.environment),
  }).catch(() => undefined);
}
