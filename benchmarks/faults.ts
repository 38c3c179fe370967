// What hung (SIGSTOP) and dead (SIGKILL) nodes cost.
//
//   npx tsx benchmarks/faults.ts [--check] [--rounds 20]

import { setTimeout as sleep } from "node:timers/promises";
import { type RedisServer, startServers, stopAll, until } from "../docker/servers.js";
import {
  conclude,
  type Goal,
  interleave,
  median,
  progress,
  printTable,
  quantile,
  ratios,
  readOptions,
  spread,
  spreadInText,
} from "./measure.js";
import { buildPackage, loadPackage } from "./package-under-test.js";

type Fault = "hung" | "dead";

const PAIRS_PER_ROUND = 100;
const PAIR_TTL_MS = 10_000;
const MOST_P50_RATIO = 1.3;

const NODE_TIMEOUT_MS = 200;
/** For the event loop, above the time that a node has. */
const TIMER_ALLOWANCE_MS = 50;

const USING_TTL_MS = 2_000;
/** What the default is for that ttl, while no node was slow. */
const USING_NODE_TIMEOUT_MS = 100;
/** Far more often than the lock is extended. */
const FOLLOW_INTERVAL_MS = 20;
const LONGEST_WORK_MS = 10_000;
const VOTE_LIMIT_MS = 10_000;

const FAULTS: readonly Fault[] = ["hung", "dead"];
const MINORITIES = [1, 2];
const MAJORITY = 3;

async function fail(fault: Fault, nodes: readonly RedisServer[]): Promise<void> {
  await Promise.all(nodes.map((node) => (fault === "hung" ? node.freeze() : node.kill())));
}

/** Brings the nodes back, and waits until each of them votes for a free lock again. */
async function mend(fault: Fault, nodes: readonly RedisServer[]): Promise<void> {
  for (const node of nodes) {
    if (fault === "hung") node.thaw();
    else await node.restart();
  }
  const everyNodeVotes = async (): Promise<boolean> => {
    const lock = await redlock.acquire("faults:all-vote", PAIR_TTL_MS, { retryCount: -1 });
    const stats = await lock.attempts.at(-1);
    await lock.release();
    return stats?.votesFor.size === servers.length;
  };
  await until(everyNodeVotes, VOTE_LIMIT_MS, () => "a node that was brought back does not vote");
}

async function during<T>(
  fault: Fault,
  count: number,
  round: number,
  body: (failed: readonly RedisServer[]) => Promise<T>,
): Promise<T> {
  // Other ones each round: not always the first that are asked.
  const failed = Array.from({ length: count }, (_, index) => server(round + index));
  await fail(fault, failed);
  try {
    return await body(failed);
  } finally {
    await mend(fault, failed);
  }
}

function server(index: number): RedisServer {
  const found = servers[index % servers.length];
  if (found === undefined) throw new Error(`There is no server ${index}`);
  return found;
}

interface Pairs {
  /** Each the ms of an acquire and a release. */
  readonly latencies: readonly number[];
  readonly failed: number;
}

async function runPairs(): Promise<Pairs> {
  const latencies: number[] = [];
  let failed = 0;
  for (let index = 0; index < PAIRS_PER_ROUND; index++) {
    const start = performance.now();
    try {
      const lock = await redlock.acquire(`faults:${index}`, PAIR_TTL_MS, { retryCount: 0 });
      await redlock.release(lock, { retryCount: 0 });
    } catch {
      failed += 1;
    }
    latencies.push(performance.now() - start);
  }
  return { latencies, failed };
}

/** A minority fails: every pair succeeds, about as fast as before. */
async function minorities(rounds: number): Promise<Goal[]> {
  const runs = new Map([["healthy", runPairs]]);
  const faulty = MINORITIES.flatMap((count) =>
    FAULTS.map((fault) => ({ fault, count, name: `${count} of 5 ${fault}` })),
  );
  for (const { fault, count, name } of faulty) {
    runs.set(name, (round = 0) => during(fault, count, round, runPairs));
  }
  const measured = await interleave<Pairs>(rounds, runs);
  const p50s = (name: string): number[] =>
    (measured.get(name) ?? []).map(({ latencies }) => median(latencies));

  const rows = [...measured].map(([name, pairs]) => {
    const all = pairs.flatMap(({ latencies }) => latencies);
    const times = [0.5, 0.99, 1].map((share) => quantile(all, share).toFixed(3));
    return [name, String(all.length), ...times];
  });
  printTable(["acquire and release, ms", "pairs", "p50", "p99", "max"], rows);

  return faulty.flatMap(({ name }) => {
    const ratio = spread(ratios(p50s(name), p50s("healthy")));
    const pairs = measured.get(name) ?? [];
    const failed = pairs.reduce((sum, round) => sum + round.failed, 0);
    const asked = pairs.length * PAIRS_PER_ROUND;
    return [
      {
        measure: `${name}: pairs that succeed`,
        measured: `${asked - failed} of ${asked}`,
        goal: "all",
        met: failed === 0,
      },
      {
        measure: `${name}: p50 to the healthy one`,
        measured: spreadInText(ratio),
        goal: `at most ${MOST_P50_RATIO}`,
        met: ratio.median <= MOST_P50_RATIO,
      },
    ];
  });
}

interface Refusal {
  readonly tookMs: number;
  readonly message: string;
  readonly namesAll: boolean;
}

async function refusedAcquire(failed: readonly RedisServer[]): Promise<Refusal> {
  const settings = { retryCount: 0, nodeTimeout: NODE_TIMEOUT_MS };
  const start = performance.now();
  const outcome = await redlock.acquire("faults:refused", PAIR_TTL_MS, settings).then(
    () => new Error("granted"),
    (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
  );
  const tookMs = performance.now() - start;
  const { message } = outcome;
  const namesAll = failed.every(({ port }) =>
    new RegExp(`127\\.0\\.0\\.1:${port} (no answer|ECONN|Connection is closed)`).test(message),
  );
  return { tookMs, message, namesAll };
}

/** A majority fails: an acquire is refused in time, and says which nodes and why. */
async function majorities(rounds: number): Promise<Goal[]> {
  // The second acquire finds nodes that are known not to answer.
  const runs = new Map(
    FAULTS.map((fault) => [
      fault,
      (round: number) =>
        during(fault, MAJORITY, round, async (failed) => ({
          first: await refusedAcquire(failed),
          second: await refusedAcquire(failed),
        })),
    ]),
  );
  const limitMs = NODE_TIMEOUT_MS + TIMER_ALLOWANCE_MS;
  return [...(await interleave(rounds, runs))].flatMap(([fault, refusals]) => {
    const firstMs = refusals.map(({ first }) => first.tookMs);
    const secondMs = refusals.map(({ second }) => second.tookMs);
    const worstMs = Math.max(...firstMs, ...secondMs);
    const named = refusals.filter(({ first, second }) => first.namesAll && second.namesAll);
    console.log(`\n3 of 5 ${fault}: ${refusals[0]?.first.message ?? ""}`);
    return [
      {
        measure: `3 of 5 ${fault}: acquire rejects, ms, worst (p50 first, again)`,
        measured: `${worstMs.toFixed(1)} (${median(firstMs).toFixed(1)}, ${median(secondMs).toFixed(2)})`,
        goal: `within ${limitMs}`,
        met: worstMs <= limitMs,
      },
      {
        measure: `3 of 5 ${fault}: the error names the three and why`,
        measured: `${named.length} of ${refusals.length}`,
        goal: "all",
        met: named.length === refusals.length,
      },
    ];
  });
}

interface Work {
  /** Ms from the abort to the end of the lock's validity, as `expiration` last said it. */
  readonly abortedBeforeMs: number | undefined;
  readonly settledAfterMs: number;
  readonly lost: boolean;
}

/** Does work under the lock until `end` resolves, or the signal aborts. */
async function work(key: string, end: Promise<void>): Promise<Work> {
  let abortedBeforeMs: number | undefined;
  let endedMs = 0;
  const outcome = await redlock
    .using(key, USING_TTL_MS, { nodeTimeout: USING_NODE_TIMEOUT_MS }, async (signal, lock) => {
      let expiration = lock.expiration;
      const aborted = new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => {
          abortedBeforeMs = expiration - Date.now();
          resolve();
        });
      });
      const followed = setInterval(() => {
        if (lock.expiration > 0) expiration = lock.expiration;
      }, FOLLOW_INTERVAL_MS);
      try {
        await Promise.race([aborted, end, tooLong(signal)]);
      } finally {
        clearInterval(followed);
        endedMs = performance.now();
      }
    })
    .then(
      () => "done",
      (error: unknown) => error,
    );
  return {
    abortedBeforeMs,
    settledAfterMs: performance.now() - endedMs,
    lost: outcome instanceof Error && outcome.name === "LockLostError",
  };
}

async function tooLong(signal: AbortSignal): Promise<void> {
  await sleep(LONGEST_WORK_MS, undefined, { ref: false, signal }).catch(() => undefined);
  if (!signal.aborted) throw new Error(`Not told of the loss in ${LONGEST_WORK_MS} ms`);
}

/** A majority hangs under work: it is told before the validity ends, and `using` then settles. */
async function losses(rounds: number): Promise<Goal[]> {
  const never = new Promise<void>(() => undefined);
  const lasting: Work[] = [];
  const brief: Work[] = [];
  for (let round = 0; round < rounds; round++) {
    progress(`using, round ${round + 1} of ${rounds}`);
    const works = [0, 1, 2].map((index) => work(`faults:lasting-${index}`, never));
    // At any moment of two extension periods.
    await sleep(100 + Math.random() * 2_500);
    const { promise: end, resolve: endBrief } = withResolver();
    const short = work("faults:brief", end);
    await sleep(20);
    await during("hung", MAJORITY, round, async () => {
      endBrief();
      brief.push(await short);
      lasting.push(...(await Promise.all(works)));
    });
  }
  progress("");

  const marginsMs = lasting.flatMap(({ abortedBeforeMs }) => abortedBeforeMs ?? -Infinity);
  const leastMs = Math.min(...marginsMs);
  const lost = lasting.filter((one) => one.lost).length;
  const settledMs = lasting.map(({ settledAfterMs }) => settledAfterMs);
  const briefMs = brief.map(({ settledAfterMs }) => settledAfterMs);
  const worst = (values: readonly number[]): string =>
    `${Math.max(...values).toFixed(1)} (${median(values).toFixed(1)})`;
  const limitMs = USING_NODE_TIMEOUT_MS + TIMER_ALLOWANCE_MS;
  return [
    {
      measure: "using, majority hung: abort before expiration, ms, least (p50)",
      measured: `${leastMs.toFixed(0)} (${median(marginsMs).toFixed(0)})`,
      goal: "more than 0",
      met: leastMs > 0,
    },
    {
      measure: "using, majority hung: rejects with LockLostError",
      measured: `${lost} of ${lasting.length}`,
      goal: "all",
      met: lost === lasting.length,
    },
    {
      measure: "using settles after work that lost its lock, ms, worst (p50)",
      measured: worst(settledMs),
      goal: `within ${USING_NODE_TIMEOUT_MS}`,
      met: Math.max(...settledMs) <= USING_NODE_TIMEOUT_MS,
    },
    {
      measure: "using settles after work that ended before, ms, worst (p50)",
      measured: worst(briefMs),
      goal: `within ${limitMs}`,
      met: Math.max(...briefMs) <= limitMs,
    },
  ];
}

function withResolver(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((resolver) => {
    resolve = resolver;
  });
  return { promise, resolve };
}

const options = readOptions();
const { Redlock } = await loadPackage(await buildPackage());
const servers = await startServers(5);
const redlock = new Redlock(servers.map(({ url }) => url));
try {
  await mend("hung", []);
  const goals = [
    ...(await minorities(options.rounds)),
    ...(await majorities(options.rounds)),
    ...(await losses(options.rounds)),
  ];
  conclude(goals, options);
} finally {
  await redlock.quit();
  await stopAll(servers);
}
