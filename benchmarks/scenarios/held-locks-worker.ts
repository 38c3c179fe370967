// A process that holds many locks, and says what that costs.

import { setTimeout as sleep } from "node:timers/promises";
import { loadPackage } from "../package-under-test.js";
import { serve } from "../workers.js";

export interface Task {
  readonly packageUrl: string;
  readonly urls: readonly string[];
  readonly count: number;
  /** By `using`, or by `acquire` with `autoExtend`. */
  readonly by: "using" | "autoExtend";
  readonly ttlMs: number;
  readonly forMs: number;
}

export interface Report {
  /** Of one core. */
  readonly cpuPercent: number;
  readonly heapPerLockKib: number;
  readonly rssMib: number;
  /** Whose signal has aborted. */
  readonly lost: number;
  readonly rampUpMs: number;
}

/** As many acquisitions at a time as a busy service would start. */
const RAMP_UP_BATCH = 256;

await serve(async (task) => {
  const { packageUrl, urls, count, by, ttlMs, forMs } = task as Task;
  const { Redlock } = await loadPackage(packageUrl);
  const redlock = new Redlock(urls);
  await redlock.using("held:warm-up", ttlMs, () => undefined);
  const heapBefore = heapBytes();
  const signals: AbortSignal[] = [];
  // The work outlasts this process, which is ended once it has reported.
  const never = new Promise<void>(() => undefined);
  const use = (key: string): Promise<void> =>
    new Promise((held, refused) => {
      const used = redlock.using(key, ttlMs, (signal) => {
        signals.push(signal);
        held();
        return never;
      });
      used.catch(refused);
    });
  const hold = async (key: string): Promise<void> => {
    if (by === "using") return use(key);
    const lock = await redlock.acquire(key, ttlMs, { autoExtend: true });
    signals.push(lock.signal);
  };
  const startMs = performance.now();
  for (let first = 0; first < count; first += RAMP_UP_BATCH) {
    const size = Math.min(RAMP_UP_BATCH, count - first);
    await Promise.all(Array.from({ length: size }, (_, index) => hold(`held:${first + index}`)));
  }
  const rampUpMs = performance.now() - startMs;

  return async (): Promise<Report> => {
    const before = process.cpuUsage();
    const sinceMs = performance.now();
    await sleep(forMs);
    const cpu = process.cpuUsage(before);
    const tookMs = performance.now() - sinceMs;
    const rssMib = process.memoryUsage().rss / 2 ** 20;
    const heapPerLockKib = (heapBytes() - heapBefore) / count / 2 ** 10;
    return {
      cpuPercent: ((cpu.user + cpu.system) / 1_000 / tookMs) * 100,
      heapPerLockKib,
      rssMib,
      lost: signals.filter(({ aborted }) => aborted).length,
      rampUpMs,
    };
  };
});

function heapBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}
