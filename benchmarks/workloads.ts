// What users of a lock do, timed.

import { ask, type RedisServer } from "../tests/support/servers.js";
import type { Locker } from "./locker.js";
import { median, quantile, sum } from "./measure.js";
import type { Figure } from "./scenario.js";

export const STEPS = ["acquire", "extend", "release"] as const;
export type Step = (typeof STEPS)[number];

/** In ms, one of each lock. */
export type Latencies = Record<Step, number[]>;

const TTL_MS = 30_000;
const WARM_UP_PAIRS = 2_000;

export interface LonePlan {
  readonly locks: number;
  /** Whether each lock is extended once. */
  readonly extend: boolean;
  /** Of the lock with this index. */
  readonly resources: (index: number) => string[];
}

/** One user takes one lock after the other. */
export async function useAlone(
  locker: Pick<Locker, "acquire">,
  { locks, extend, resources }: LonePlan,
): Promise<Latencies> {
  const latencies: Latencies = { acquire: [], extend: [], release: [] };
  for (let index = 0; index < locks; index++) {
    const names = resources(index);
    const startMs = performance.now();
    let lock = await locker.acquire(names, TTL_MS);
    const acquiredMs = performance.now();
    if (extend) lock = await lock.extend(TTL_MS);
    const extendedMs = performance.now();
    await lock.release();
    const releasedMs = performance.now();
    latencies.acquire.push(acquiredMs - startMs);
    if (extend) latencies.extend.push(extendedMs - acquiredMs);
    latencies.release.push(releasedMs - extendedMs);
  }
  return latencies;
}

/** On names of this process's own: others may warm up at the same time. */
export async function warmUp(locker: Pick<Locker, "acquire">, extend: boolean): Promise<void> {
  const resources = (index: number): string[] => [`warm-up:${process.pid}:${index}`];
  await useAlone(locker, { locks: WARM_UP_PAIRS, extend, resources });
}

export const PERCENTILES = [
  { name: "p50", share: 0.5 },
  { name: "p99", share: 0.99 },
  { name: "p99.9", share: 0.999 },
] as const;

/** Of all rounds together. */
export function percentiles(rounds: readonly (readonly number[])[]): number[] {
  const all = rounds.flat();
  return PERCENTILES.map(({ share }) => quantile(all, share));
}

export function medians(rounds: readonly (readonly number[])[]): number[] {
  return rounds.map((values) => median(values));
}

/** For a chart: x is 1 / (1 - share). */
export function quantileCurve(values: readonly number[]): [number, number][] {
  const sorted = values.toSorted((a, b) => a - b);
  const points: [number, number][] = [];
  // A quantile that fewer than ten values lie above says little.
  for (let x = 1; x <= values.length / 10; x *= 1.25) {
    const value = sorted[Math.floor(values.length * (1 - 1 / x))];
    if (value !== undefined) points.push([x, value]);
  }
  return points;
}

export interface Cost {
  readonly pairsPerSecond: number;
  /** Of the client's process, and of the five servers together. */
  readonly clientCpuUs: number;
  readonly serverCpuUs: number;
}

export interface CrowdPlan {
  readonly users: number;
  readonly forMs: number;
  /** Each library has names of its own: what one has just released may still be on its way. */
  readonly keyPrefix: string;
}

/** Many users in one process, each taking and releasing its own lock again and again. */
export async function useTogether(
  locker: Locker,
  servers: readonly RedisServer[],
  plan: CrowdPlan,
): Promise<Cost> {
  const serversBefore = await cpuOfServersUs(servers);
  const { pairs, ...cost } = await usePairs(locker, plan);
  const serverCpuUs = (await cpuOfServersUs(servers)) - serversBefore;
  return { ...cost, serverCpuUs: serverCpuUs / pairs };
}

/** The same, without a look at the servers. @param atEnd what the process does before its CPU time is read */
export async function usePairs(
  locker: Pick<Locker, "acquire">,
  { users, forMs, keyPrefix }: CrowdPlan,
  atEnd: () => Promise<unknown> = () => Promise.resolve(),
): Promise<Omit<Cost, "serverCpuUs"> & { readonly pairs: number }> {
  const before = process.cpuUsage();
  const startMs = performance.now();
  const endMs = startMs + forMs;
  let pairs = 0;
  const user = async (index: number): Promise<void> => {
    while (performance.now() < endMs) {
      const lock = await locker.acquire([`${keyPrefix}:${index}`], TTL_MS);
      await lock.release();
      pairs += 1;
    }
  };
  await Promise.all(Array.from({ length: users }, (_, index) => user(index)));
  const tookMs = performance.now() - startMs;
  await atEnd();
  const cpu = process.cpuUsage(before);
  return {
    pairs,
    pairsPerSecond: (pairs / tookMs) * 1_000,
    clientCpuUs: (cpu.user + cpu.system) / pairs,
  };
}

/** Since they started; as they say themselves. */
export async function cpuOfServersUs(servers: readonly RedisServer[]): Promise<number> {
  const used = await Promise.all(
    servers.map(async ({ port }) => {
      const info = await ask(port, ["INFO", "cpu"], 5_000);
      const seconds = (name: string): number =>
        Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)?.[1]);
      return 1e6 * (seconds("used_cpu_user") + seconds("used_cpu_sys"));
    }),
  );
  return sum(used);
}

/** `values` of each contestant, or undefined in each place where it took no part. */
export function cells(count: number, values: readonly Figure[] | undefined): readonly Figure[] {
  return values ?? Array.from({ length: count }, () => undefined);
}
