// One of the contention benchmark's processes: its workers take turns under one lock, without a
// pause, for as long as the parent says; then it reports.

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { type HeldLock, type Library, type Locker, makeLocker } from "./peers.js";

export interface Task {
  readonly library: Library;
  readonly key: string;
  readonly workers: number;
  readonly forMs: number;
}

export interface Report {
  /** One a worker. */
  readonly turns: readonly number[];
  /** From asking to holding; also the waits that the end of the round cut short. */
  readonly waitsMs: readonly number[];
  /** Together, from holding to released. */
  readonly heldMs: number;
  /** Those of the turns; a wait that was cut short tells nothing of its own. */
  readonly attempts: number;
  /** Attempts refused although some node, but no quorum, voted for them. */
  readonly splitVotes: number;
}

const TTL_MS = 2_000;
const WORK_MS = 2;
/** Without end; delay and jitter are the defaults. */
const SETTINGS = { retryCount: -1 };

async function perform(locker: Locker, { key, workers, forMs }: Task): Promise<Report> {
  const turns = Array.from({ length: workers }, () => 0);
  const waitsMs: number[] = [];
  const attempts: HeldLock["attempts"][number][] = [];
  let heldMs = 0;
  const endMs = performance.now() + forMs;

  const work = async (worker: number): Promise<void> => {
    while (performance.now() < endMs) {
      const askedMs = performance.now();
      const lock = await locker.acquire([key], TTL_MS, SETTINGS);
      const acquiredMs = performance.now();
      waitsMs.push(Math.min(acquiredMs, endMs) - askedMs);
      if (acquiredMs < endMs) {
        turns[worker] = (turns[worker] ?? 0) + 1;
        attempts.push(...lock.attempts);
        await sleep(WORK_MS);
      }
      // After the end the parent deletes the key, and node-redlock's release then throws.
      await lock.release().catch(() => undefined);
      heldMs += Math.max(0, Math.min(performance.now(), endMs) - acquiredMs);
    }
  };
  await Promise.all(turns.map((_, worker) => work(worker)));

  const votes = (await Promise.all(attempts)).map(({ votesFor }) => votesFor.size);
  const splitVotes = votes.filter((inFavour) => inFavour > 0 && inFavour < quorum).length;
  return { turns, waitsMs, heldMs, attempts: attempts.length, splitVotes };
}

const [packageUrl = "", ...ports] = process.argv.slice(2);
const quorum = Math.floor(ports.length / 2) + 1;

const clients = ports.map((port) => new Redis(Number(port)));
const lockers = new Map<Library, Locker>();

async function onTask(task: Task): Promise<void> {
  const { library } = task;
  const locker = lockers.get(library) ?? (await makeLocker(library, clients, packageUrl));
  lockers.set(library, locker);
  process.send?.(await perform(locker, task));
}

await Promise.all(clients.map((client) => client.ping()));
process.on("message", (task: Task) => void onTask(task));
process.once("disconnect", () => {
  process.exit();
});
process.send?.("ready");
