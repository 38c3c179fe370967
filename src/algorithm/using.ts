import pTimeout from "p-timeout";
import { asError, invalidType, kindOf } from "../errors.js";
import { type Lock, partsOf } from "../lock.js";
import { pTimeoutTimers } from "../runtime/environment.js";
import { extensionThresholdMs, type Settings } from "../settings.js";
import { acquire } from "./acquire.js";
import type { Acquisition, Instance } from "./call.js";
import { attemptExtension, Extension, whyNotExtended } from "./extend.js";
import { Keeper, type RedlockAbortSignal } from "./keeper.js";
import { askRelease, Release, release, releaseSettings } from "./release.js";

/** A function that `using` runs under a lock. */
export type Routine<T> = (signal: RedlockAbortSignal, lock: Lock) => Promise<T> | T;

/** Returns the settings and the routine of a call of `using`, which may leave out the settings. */
export function usingArguments<T>(
  settingsOrRoutine: Settings | Routine<T>,
  optionalRoutine: Routine<T> | undefined,
): [Settings | undefined, Routine<T>] {
  const [settings, routine] =
    typeof settingsOrRoutine === "function"
      ? [undefined, settingsOrRoutine]
      : [settingsOrRoutine, optionalRoutine];
  if (typeof routine === "function") return [settings, routine];
  throw invalidType(
    `INVARIANT: routine is not a function. using() needs one to run under the lock, but got ${kindOf(routine)}.`,
  );
}

/** Acquires the lock, keeps it while `routine` runs, and releases it. Throws what the routine throws, or the loss. */
export async function using<T>(call: Acquisition, routine: Routine<T>): Promise<T> {
  const { instance, settings, ttlMs } = call;
  const thresholdMs = extensionThresholdMs(ttlMs, settings);
  const lock = await acquire(call);
  const { lease } = partsOf(lock, "using");
  if (instance.closing.aborted) endInUse(instance, lock);
  call.assertOpen();
  const keeper = new Keeper(
    {
      lock,
      lease,
      thresholdMs,
      pauseMs: () => call.nextDelayMs(),
      extend: async (limitMs) => {
        const extension = new Extension(instance, lock, ttlMs, settings);
        const extended = await attemptExtension(extension, limitMs);
        return extended === undefined ? whyNotExtended(extension) : undefined;
      },
    },
    instance.alarms,
    instance.environment,
  );
  instance.locksInUse.add(lock);
  try {
    const value = await routine(keeper.signal, lock);
    const loss = keeper.stop();
    if (loss !== undefined) throw loss;
    return value;
  } finally {
    instance.locksInUse.delete(lock);
    keeper.stop();
    await releaseInTime(call, lock);
  }
}

/** Releases a lock whose Redlock closes. The release is on its way before the routine learns of the loss. */
export function endInUse(instance: Instance, lock: Lock): void {
  const parts = partsOf(lock, "using");
  if (!parts.lease.open) return;
  askRelease(new Release(instance, lock, releaseSettings(instance, parts)));
  parts.lease.lose(asError(instance.closing.reason));
}

/** Releases, but waits for it no longer than one node's timeout: the caller wants the routine's result. */
async function releaseInTime(call: Acquisition, lock: Lock): Promise<void> {
  const { instance, settings } = call;
  const { nodeTimeout } = settings;
  const base = releaseSettings(instance, partsOf(lock, "using"));
  const own = { ...base, retryCount: 0, ...(nodeTimeout === undefined ? {} : { nodeTimeout }) };
  const ending = new Release(instance, lock, own);
  await pTimeout(release(ending), {
    milliseconds: ending.longestNodeTimeoutMs,
    customTimers: pTimeoutTimers(instance.environment),
  }).catch(() => undefined);
}
