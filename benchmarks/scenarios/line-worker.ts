// One of the processes that take turns under one lock of this library, and when each of them had it.

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { loadPackage } from "../package-under-test.js";
import { serve } from "../workers.js";

export interface Task {
  readonly packageUrl: string;
  readonly urls: readonly string[];
  readonly resources: readonly string[];
  readonly workers: number;
  readonly forMs: number;
  readonly workMs: number;
  /**
   * `mute`: nobody can call it. `dying`: it is killed as soon as it stands in line, which the line of its
   * second resource shows, where nobody else is.
   */
  readonly kind?: "mute" | "dying";
}

/** In epoch ms, which the processes of one machine share. */
export interface Tenure {
  readonly fromMs: number;
  /** When its release was called. */
  readonly toMs: number;
  readonly releaseMs: number;
}

const TTL_MS = 2_000;
const HELD_MS = 60_000;

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

await serve(async (given) => {
  const { packageUrl, urls, resources, workers, forMs, workMs, kind } = given as Task;
  const { Redlock } = await loadPackage(packageUrl);
  const nodes = kind === "mute" ? urls.map(withoutDouble) : urls;
  const redlock = new Redlock(nodes, { retryCount: -1 });
  for (let index = 0; index < 200; index++) {
    await (await redlock.acquire(`warm-up:${process.pid}:${index}`, TTL_MS)).release();
  }

  const dieInLine = async (): Promise<never> => {
    // Held, or it would not be in the way, and nobody would stand in its line.
    await redlock.acquire(resources.slice(1), HELD_MS);
    void redlock.acquire(resources, TTL_MS);
    for (;;) {
      const nodes = await redlock.inspect(resources);
      const ownLines = nodes.flatMap(({ resources: [, own] }) => own?.waiters ?? []);
      if (ownLines.length > 0) process.kill(process.pid, "SIGKILL");
    }
  };

  return async (): Promise<readonly Tenure[]> => {
    if (kind === "dying") return dieInLine();
    const tenures: Tenure[] = [];
    const takeTurns = async (): Promise<void> => {
      for (;;) {
        const lock = await redlock.acquire(resources, TTL_MS);
        const fromMs = epochMs();
        await sleep(workMs);
        const toMs = epochMs();
        await lock.release();
        tenures.push({ fromMs, toMs, releaseMs: epochMs() - toMs });
      }
    };
    for (let worker = 0; worker < workers; worker++) void takeTurns();
    await sleep(forMs);
    return tenures;
  };
});

function withoutDouble(url: string): Redis {
  const client = new Redis(url);
  client.on("error", () => undefined);
  return Object.assign(client, { duplicate: undefined });
}
