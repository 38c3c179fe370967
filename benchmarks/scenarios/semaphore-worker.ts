// One of the processes whose workers take turns under the permits of one resource, and when each of them had one.

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { RedlockSemaphore } from "redis-semaphore";
import { OURS } from "../libraries.js";
import { loadPackage } from "../package-under-test.js";
import { serve } from "../workers.js";

export interface Task {
  readonly packageUrl: string;
  readonly library: typeof OURS | "redis-semaphore";
  readonly urls: readonly string[];
  readonly key: string;
  readonly permits: number;
  readonly workers: number;
  readonly forMs: number;
  readonly workMs: number;
}

/** In epoch ms, which the processes of one machine share. */
export interface Turn {
  readonly askedMs: number;
  readonly fromMs: number;
  /** When its release was called. */
  readonly toMs: number;
}

const TTL_MS = 2_000;

type Release = () => Promise<unknown>;

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

await serve(async (given) => {
  const { library, key, forMs, workers, workMs, ...own } = given as Task;
  const acquire = library === OURS ? await ours(own) : await theirs(own);
  for (let index = 0; index < 50; index++) await (await acquire(`warm-up:${process.pid}`))();

  return async (): Promise<readonly Turn[]> => {
    const turns: Turn[] = [];
    const takeTurns = async (): Promise<void> => {
      for (;;) {
        const askedMs = epochMs();
        const release = await acquire(key);
        const fromMs = epochMs();
        await sleep(workMs);
        turns.push({ askedMs, fromMs, toMs: epochMs() });
        await release().catch(() => undefined);
      }
    };
    for (let worker = 0; worker < workers; worker++) void takeTurns();
    await sleep(forMs);
    return turns;
  };
});

type Own = Pick<Task, "packageUrl" | "urls" | "permits">;

async function ours({
  packageUrl,
  urls,
  permits,
}: Own): Promise<(key: string) => Promise<Release>> {
  const { Redlock } = await loadPackage(packageUrl);
  const redlock = new Redlock(urls, { retryCount: -1, permits });
  return async (key) => {
    const lock = await redlock.acquire(key, TTL_MS);
    return () => lock.release();
  };
}

function theirs({ urls, permits }: Own): Promise<(key: string) => Promise<Release>> {
  const clients = urls.map((url) => new Redis(url));
  return Promise.resolve(async (key) => {
    const settings = { lockTimeout: TTL_MS, acquireTimeout: Number.POSITIVE_INFINITY };
    const semaphore = new RedlockSemaphore(clients, key, permits, settings);
    await semaphore.acquire();
    return () => semaphore.release();
  });
}
