import { setTimeout as sleep } from "node:timers/promises";
import type { RedisServer } from "../../tests/support/servers.js";
import { OURS } from "../libraries.js";
import type { Locker } from "../locker.js";
import { interleave, median, progress, quantile, ratios, spread, sum } from "../measure.js";
import { loadPackage, type Package } from "../package-under-test.js";
import type { Chart, Goal, Outcome, Scenario, Stage, Table } from "../scenario.js";
import { warmUp } from "../workloads.js";

type Fault = "hung" | "dead";
type Redlock = InstanceType<Package["Redlock"]>;

const PAIRS_PER_TURN = 200;
/** Those that wait for a hung node would never end. */
const PEER_TURN_LIMIT_MS = 500;
/** No pair of ours is to be missing because the machine is busy. */
const OUR_TURN_LIMIT_MS = 20_000;
const PAIR_TTL_MS = 10_000;
const HEALTHY = "healthy";
const MOST_P50_RATIO = 1.3;
/** One hung node is to be noticed still less. */
const ONE_HUNG = "1 of 5 hung";
const MOST_P50_RATIO_ONE_HUNG = 1.1;
const MOST_P99_RATIO_ONE_HUNG = 1.5;

const NODE_TIMEOUT_MS = 200;
/** For the event loop, above the time that a node has. */
const TIMER_ALLOWANCE_MS = 50;

const USING_TTL_MS = 2_000;
/** What the default is for that ttl, while no node was slow. */
const USING_NODE_TIMEOUT_MS = 100;
/** Far more often than the lock is extended. */
const FOLLOW_INTERVAL_MS = 20;
const LONGEST_WORK_MS = 10_000;
const MEND_LIMIT_MS = 30_000;

const FAULTS: readonly Fault[] = ["hung", "dead"];
const MINORITIES = [1, 2];
const MAJORITY = 3;

export const faults: Scenario = {
  name: "faults",
  title: "Hung and dead nodes",
  about:
    `Each round stops other nodes (SIGSTOP, hung) or kills them (SIGKILL, dead). One user acquires and ` +
    `releases: ${PAIRS_PER_TURN} pairs a round, and the peers as many of them as ${PEER_TURN_LIMIT_MS} ms allow. Then a majority fails ` +
    `under an acquire with a nodeTimeout of ${NODE_TIMEOUT_MS} ms, twice, and under \`using\` with a ttl of ${USING_TTL_MS} ms. ` +
    "That part measures this library alone.",
  rounds: { usual: 20, short: 2 },
  run,
};

async function run({ servers, libraries, packageUrl, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const { Redlock } = await loadPackage(packageUrl);
  const redlock = new Redlock(urls);
  const lockers = new Map<string, Locker>();
  try {
    for (const library of libraries) {
      const locker = await library.open(urls, "none");
      lockers.set(library.name, locker);
      await warmUp(locker, false);
    }
    const group: Group = { servers, lockers };
    const minority = await minorities(group, rounds);
    const majority = await majorities(group, redlock, rounds);
    const loss = await losses(group, redlock, rounds);
    return {
      tables: minority.tables,
      goals: [...minority.goals, ...majority.goals, ...loss],
      charts: minority.charts,
      notes: majority.notes,
    };
  } finally {
    await redlock.quit();
    for (const locker of lockers.values()) locker.close();
  }
}

interface Group {
  readonly servers: readonly RedisServer[];
  readonly lockers: ReadonlyMap<string, Locker>;
}

async function during<T>(
  { servers, lockers }: Group,
  fault: Fault,
  count: number,
  round: number,
  body: (failed: readonly RedisServer[]) => Promise<T>,
): Promise<T> {
  // Other ones each round: not always the first that are asked.
  const from = round % servers.length;
  const failed = [...servers.slice(from), ...servers.slice(0, from)].slice(0, count);
  await Promise.all(failed.map((node) => (fault === "hung" ? node.freeze() : node.kill())));
  try {
    return await body(failed);
  } finally {
    for (const node of failed) {
      if (fault === "hung") node.thaw();
      else await node.restart();
    }
    for (const locker of lockers.values()) await locker.reachAll();
  }
}

interface Turn {
  /** Each the ms of an acquire and a release. */
  readonly latencies: readonly number[];
  readonly refused: number;
  readonly pairsPerSecond: number;
  /** Resolves when the pair has ended that was under way at the time limit. */
  readonly rest: Promise<void>;
}

async function takeTurn(name: string, locker: Locker): Promise<Turn> {
  const limitMs = name === OURS ? OUR_TURN_LIMIT_MS : PEER_TURN_LIMIT_MS;
  const latencies: number[] = [];
  let refused = 0;
  const startMs = performance.now();
  const endMs = startMs + limitMs;
  // What a node that was dead is sent late must not meet the next turn.
  const keyPrefix = `faults:${name}:${Math.round(startMs)}`;
  const takePairs = async (): Promise<void> => {
    for (let index = 0; index < PAIRS_PER_TURN && performance.now() < endMs; index++) {
      const askedMs = performance.now();
      try {
        const lock = await locker.acquire([`${keyPrefix}:${index}`], PAIR_TTL_MS);
        await lock.release();
      } catch {
        // What the limit cut short ends when the nodes are back, as it may.
        if (performance.now() < endMs) refused += 1;
        continue;
      }
      const releasedMs = performance.now();
      if (releasedMs < endMs) latencies.push(releasedMs - askedMs);
    }
  };
  const rest = takePairs();
  await Promise.race([rest, sleep(limitMs)]);
  const seconds = (performance.now() - startMs) / 1_000;
  return { latencies: [...latencies], refused, pairsPerSecond: latencies.length / seconds, rest };
}

/** All libraries in turn, under one and the same fault. */
async function takeTurns({ lockers }: Group, round: number): Promise<Map<string, Turn>> {
  const turns = new Map<string, Turn>();
  const order = [...lockers];
  if (round % 2 === 1) order.reverse();
  for (const [name, locker] of order) turns.set(name, await takeTurn(name, locker));
  return turns;
}

/** A minority fails: every pair succeeds, about as fast as before. */
async function minorities(
  group: Group,
  rounds: number,
): Promise<{ tables: Table[]; goals: Goal[]; charts: Chart[] }> {
  const faulty = FAULTS.flatMap((fault) =>
    MINORITIES.map((count) => ({ fault, count, name: `${count} of 5 ${fault}` })),
  );
  const runs = new Map([[HEALTHY, (round: number) => takeTurns(group, round)]]);
  for (const { fault, count, name } of faulty) {
    runs.set(name, async (round) => {
      const turns = await during(group, fault, count, round, () => takeTurns(group, round));
      await Promise.race([
        Promise.all(Array.from(turns.values(), ({ rest }) => rest)),
        sleep(MEND_LIMIT_MS, undefined, { ref: false }).then(() => {
          throw new Error(`${name}: a pair did not end in ${MEND_LIMIT_MS} ms after the fault`);
        }),
      ]);
      return turns;
    });
  }
  const measured = await interleave(rounds, runs);
  const cases = [HEALTHY, ...faulty.map(({ name }) => name)];
  const names = [...group.lockers.keys()];
  const of = (library: string, at: string): Turn[] =>
    (measured.get(at) ?? []).flatMap((turns) => turns.get(library) ?? []);
  const quantiles = (at: string, share: number): number[] =>
    of(OURS, at).map(({ latencies }) => quantile(latencies, share));

  const tables = [
    {
      columns: [
        { name: "acquire and release p50 ms" },
        ...cases.map((name) => ({ name, digits: 3 })),
      ],
      rows: names.map((library) => ({
        name: library,
        figures: cases.map((at) => {
          const latencies = of(library, at).flatMap((turn) => turn.latencies);
          return latencies.length === 0 ? "none finished" : median(latencies);
        }),
      })),
    },
    {
      columns: [{ name: "pairs that finished" }, ...cases.map((name) => ({ name }))],
      rows: names.map((library) => ({
        name: library,
        figures: cases.map((at) => {
          const turns = of(library, at);
          const finished = sum(turns.map(({ latencies }) => latencies.length));
          return `${finished} of ${turns.length * PAIRS_PER_TURN}`;
        }),
      })),
    },
  ];
  const goals = faulty.flatMap(({ name }): Goal[] => {
    const turns = of(OURS, name);
    const finished = sum(turns.map(({ latencies }) => latencies.length));
    const refused = sum(turns.map((turn) => turn.refused));
    const asked = turns.length * PAIRS_PER_TURN;
    const p50 = spread(ratios(quantiles(name, 0.5), quantiles(HEALTHY, 0.5)));
    const p99 = spread(ratios(quantiles(name, 0.99), quantiles(HEALTHY, 0.99)));
    const mostP50 = name === ONE_HUNG ? MOST_P50_RATIO_ONE_HUNG : MOST_P50_RATIO;
    return [
      {
        measure: `${name}: pairs that succeed`,
        measured: `${finished} of ${asked}, ${refused} refused`,
        goal: "all",
        met: finished === asked,
      },
      {
        measure: `${name}: p50, relative to healthy nodes`,
        measured: p50,
        goal: `at most ${mostP50}`,
        met: p50.median <= mostP50,
      },
      ...(name === ONE_HUNG
        ? [
            {
              measure: `${name}: p99, relative to healthy nodes`,
              measured: p99,
              goal: `at most ${MOST_P99_RATIO_ONE_HUNG}`,
              met: p99.median <= MOST_P99_RATIO_ONE_HUNG,
            },
          ]
        : []),
    ];
  });
  const chart: Chart = {
    kind: "bars",
    name: "faults",
    title: "Acquire and release, one user, while nodes are hung or dead",
    yName: "pairs/s",
    categories: cases,
    series: names.map((name) => ({
      name,
      values: cases.map((at) => median(of(name, at).map((turn) => turn.pairsPerSecond))),
    })),
  };
  return { tables, goals, charts: [chart] };
}

interface Refusal {
  readonly tookMs: number;
  readonly message: string;
  readonly namesAll: boolean;
}

async function refusedAcquire(redlock: Redlock, failed: readonly RedisServer[]): Promise<Refusal> {
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
async function majorities(
  group: Group,
  redlock: Redlock,
  rounds: number,
): Promise<{ goals: Goal[]; notes: string[] }> {
  // The second acquire finds nodes that are known not to answer.
  const runs = new Map(
    FAULTS.map((fault) => [
      fault,
      (round: number) =>
        during(group, fault, MAJORITY, round, async (failed) => ({
          first: await refusedAcquire(redlock, failed),
          second: await refusedAcquire(redlock, failed),
        })),
    ]),
  );
  const limitMs = NODE_TIMEOUT_MS + TIMER_ALLOWANCE_MS;
  const measured = [...(await interleave(rounds, runs))];
  const notes = measured.map(
    ([fault, [refusal]]) => `3 of 5 ${fault}, the error: “${refusal?.first.message ?? ""}”`,
  );
  const goals = measured.flatMap(([fault, refusals]): Goal[] => {
    const firstMs = refusals.map(({ first }) => first.tookMs);
    const secondMs = refusals.map(({ second }) => second.tookMs);
    const worstMs = Math.max(...firstMs, ...secondMs);
    const named = refusals.filter(({ first, second }) => first.namesAll && second.namesAll);
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
  return { goals, notes };
}

interface Work {
  /** Ms from the abort to the end of the lock's validity, as `expiration` last said it. */
  readonly abortedBeforeMs: number | undefined;
  readonly settledAfterMs: number;
  readonly lost: boolean;
}

/** Does work under the lock until `end` resolves, or the signal aborts. */
async function work(redlock: Redlock, key: string, end: Promise<void>): Promise<Work> {
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
async function losses(group: Group, redlock: Redlock, rounds: number): Promise<Goal[]> {
  const never = new Promise<void>(() => undefined);
  const lasting: Work[] = [];
  const brief: Work[] = [];
  for (let round = 0; round < rounds; round++) {
    progress(`using, round ${round + 1} of ${rounds}`);
    const works = [0, 1, 2].map((index) => work(redlock, `faults:lasting-${index}`, never));
    // At any moment of two extension periods.
    await sleep(100 + Math.random() * 2_500);
    const { promise: end, resolve: endBrief } = withResolver();
    const short = work(redlock, "faults:brief", end);
    await sleep(20);
    await during(group, "hung", MAJORITY, round, async () => {
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
