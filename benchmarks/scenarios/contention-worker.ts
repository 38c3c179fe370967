// One of the processes that contend: its workers take turns under one lock, without a pause.

import { setTimeout as sleep } from "node:timers/promises";
import { installedLibraries, libraryNamed } from "../libraries.js";
import { serve } from "../workers.js";
import { warmUp } from "../workloads.js";

export interface Task {
  readonly packageUrl: string;
  readonly library: string;
  readonly urls: readonly string[];
  readonly key: string;
  readonly workers: number;
  readonly forMs: number;
  readonly workMs: number;
}

export interface Report {
  /** One a worker. */
  readonly turns: readonly number[];
  /** From asking to holding; also the waits that the end cut short. */
  readonly waitsMs: readonly number[];
  /** Together, from holding to released. */
  readonly heldMs: number;
  /** Those of the turns, where the library keeps them. */
  readonly attempts: number | undefined;
  /** Longer than asked for, where the event loop was busy. */
  readonly tookMs: number;
}

const TTL_MS = 2_000;

await serve(async (given) => {
  const task = given as Task;
  const { packageUrl, library, urls } = task;
  const locker = await libraryNamed(installedLibraries(packageUrl), library).open(urls, "endless");
  await warmUp(locker, false);

  return async (): Promise<Report> => {
    const { key, workers, forMs, workMs } = task;
    const turns = Array.from({ length: workers }, () => 0);
    const waitsMs: number[] = [];
    const askedMs = new Map<number, number>();
    let heldMs = 0;
    let attempts: number | undefined;
    const startMs = performance.now();

    const takeTurns = async (worker: number): Promise<void> => {
      for (;;) {
        askedMs.set(worker, performance.now());
        const lock = await locker.acquire([key], TTL_MS);
        const acquiredMs = performance.now();
        waitsMs.push(acquiredMs - (askedMs.get(worker) ?? NaN));
        askedMs.delete(worker);
        turns[worker] = (turns[worker] ?? 0) + 1;
        if (lock.attempts !== undefined) attempts = (attempts ?? 0) + lock.attempts.length;
        await sleep(workMs);
        // A lock that has expired meanwhile is no longer there to be released: that library's turn is over.
        await lock.release().catch(() => undefined);
        heldMs += performance.now() - acquiredMs;
      }
    };
    for (let worker = 0; worker < workers; worker++) void takeTurns(worker);
    await sleep(forMs);
    const endMs = performance.now();
    const cutShort = [...askedMs.values()].map((asked) => endMs - asked);
    return { turns, waitsMs: [...waitsMs, ...cutShort], heldMs, attempts, tookMs: endMs - startMs };
  };
});
