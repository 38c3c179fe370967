// One user, healthy nodes: how much longer an acquire, extend and release take than the floor.
//
//   npx tsx benchmarks/latency.ts [--check] [--rounds 100]

import { Redis } from "ioredis";
import { type RedisServer, startServers, stopAll } from "../docker/servers.js";
import { floorOf } from "./floor.js";
import {
  conclude,
  type Goal,
  interleave,
  median,
  type Options,
  printTable,
  progress,
  quantile,
  ratios,
  readOptions,
  spread,
  spreadInText,
} from "./measure.js";
import { buildPackage, loadPackage } from "./package-under-test.js";

const TTL_MS = 30_000;
/** Few, so that the contestants of a round meet the same moment of the machine. */
const LOCKS_PER_ROUND = 100;
const ROUNDS = 100;
const WARM_UP_LOCKS = 3_000;
const MOST_ACQUIRE_RATIO = 1.15;
const STEPS = ["acquire", "extend", "release"] as const;

/** In ms, one of each lock. */
type Latencies = Record<(typeof STEPS)[number], number[]>;

interface Contestant {
  /** Takes one lock, extends it and releases it. */
  readonly useLock: (key: string, latencies: Latencies) => Promise<void>;
  readonly clients: readonly Redis[];
}

async function timed<L>(
  latencies: Latencies,
  acquire: () => Promise<L>,
  extend: (lock: L) => Promise<unknown>,
  release: (lock: L) => Promise<unknown>,
): Promise<void> {
  const start = performance.now();
  const lock = await acquire();
  const acquired = performance.now();
  await extend(lock);
  const extended = performance.now();
  await release(lock);
  const released = performance.now();
  latencies.acquire.push(acquired - start);
  latencies.extend.push(extended - acquired);
  latencies.release.push(released - extended);
}

async function connect(servers: readonly RedisServer[]): Promise<Redis[]> {
  const clients = servers.map(({ port }) => new Redis(port));
  await Promise.all(clients.map((client) => client.ping()));
  return clients;
}

async function floorContestant(servers: readonly RedisServer[]): Promise<Contestant> {
  const clients = await connect(servers);
  const floor = await floorOf(clients);
  return {
    clients,
    useLock: (key, latencies) =>
      timed(
        latencies,
        () => floor.acquire(key, TTL_MS),
        (lock) => floor.extend(lock, TTL_MS),
        (lock) => floor.release(lock),
      ),
  };
}

async function ourContestant(servers: readonly RedisServer[]): Promise<Contestant> {
  const { Redlock } = await loadPackage(await buildPackage());
  const clients = await connect(servers);
  const redlock = new Redlock(clients);
  return {
    clients,
    useLock: (key, latencies) =>
      timed(
        latencies,
        () => redlock.acquire(key, TTL_MS),
        (lock) => redlock.extend(lock, TTL_MS),
        (lock) => redlock.release(lock),
      ),
  };
}

async function useLocks({ useLock }: Contestant, count: number): Promise<Latencies> {
  const latencies: Latencies = { acquire: [], extend: [], release: [] };
  for (let index = 0; index < count; index++) await useLock(`latency:${index}`, latencies);
  return latencies;
}

async function measure(
  contestants: ReadonlyMap<string, Contestant>,
  options: Options,
): Promise<void> {
  for (const [name, contestant] of contestants) {
    progress(`warming up: ${name}`);
    await useLocks(contestant, WARM_UP_LOCKS);
  }
  const runs = new Map(
    [...contestants].map(([name, contestant]) => [
      name,
      () => useLocks(contestant, LOCKS_PER_ROUND),
    ]),
  );
  const measured = await interleave(options.rounds, runs);
  const floor = measured.get(FLOOR) ?? [];
  const p50s = (latencies: readonly Latencies[], step: keyof Latencies): number[] =>
    latencies.map((round) => median(round[step]));

  const rows: string[][] = [];
  const goals: Goal[] = [];
  for (const step of STEPS) {
    for (const [name, latencies] of measured) {
      const ratio = spread(ratios(p50s(latencies, step), p50s(floor, step)));
      const all = latencies.flatMap((round) => round[step]);
      const times = [0.5, 0.99, 0.999].map((share) => quantile(all, share).toFixed(3));
      rows.push([`${step}, ${name}`, ...times, name === FLOOR ? "" : spreadInText(ratio, 3)]);
      if (name === FLOOR) continue;
      const measure = `${step} p50, ${name}, to the floor's`;
      const measuredRatio = spreadInText(ratio, 3);
      goals.push(
        step === "acquire" && name === OURS
          ? {
              measure,
              measured: measuredRatio,
              goal: `at most ${MOST_ACQUIRE_RATIO}`,
              met: ratio.median <= MOST_ACQUIRE_RATIO,
            }
          : { measure, measured: measuredRatio, goal: "" },
      );
    }
  }
  printTable(["ms", "p50", "p99", "p99.9", "p50 to the floor's (quartiles)"], rows);
  conclude(goals, options);
}

const FLOOR = "floor";
const FLOOR_AGAIN = "floor again";
const OURS = "redlock-quorum";

const options = readOptions(ROUNDS);
const servers = await startServers(5);
const contestants = new Map<string, Contestant>();
try {
  contestants.set(FLOOR, await floorContestant(servers));
  contestants.set(OURS, await ourContestant(servers));
  contestants.set(FLOOR_AGAIN, await floorContestant(servers));
  await measure(contestants, options);
} finally {
  for (const { clients } of contestants.values()) for (const client of clients) client.disconnect();
  await stopAll(servers);
}
