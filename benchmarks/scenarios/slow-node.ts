import { OURS } from "../libraries.js";
import type { Locker } from "../locker.js";
import { interleave, median, quantile, ratios, spread } from "../measure.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import { useAlone, warmUp } from "../workloads.js";
import { startWorker, type Worker } from "../workers.js";
import type { Task } from "./slow-node-worker.js";

const DELAYS_MS = [0, 5, 50];
const PAIRS_PER_ROUND = 200;
/** Those that wait for every node need 100 ms a pair. */
const PEER_PAIRS_PER_ROUND = 5;
const MOST_P50_RATIO = 1.1;
const MOST_P99_RATIO = 1.5;

export const slowNode: Scenario = {
  name: "slow-node",
  title: "One slow node",
  about:
    "One user acquires and releases while one of five nodes replies 0, 5 or 50 ms later, because of a proxy in " +
    `front of it: ${PAIRS_PER_ROUND} pairs a round (peers: ${PEER_PAIRS_PER_ROUND}). The case of 0 ms goes through the ` +
    "proxy, too.",
  rounds: { usual: 20, short: 3 },
  run,
};

/** In ms, one of each acquire with its release. */
type Pairs = readonly number[];

async function run({ libraries, servers, rounds }: Stage): Promise<Outcome> {
  const [slow, ...others] = servers;
  if (slow === undefined) throw new Error("There is no server.");
  const proxies: Worker<string>[] = [];
  const lockers: Locker[] = [];
  const runs = new Map<string, () => Promise<Pairs>>();
  try {
    for (const delayMs of DELAYS_MS) {
      const task: Task = { port: slow.port, replyDelayMs: delayMs };
      const proxy = await startWorker<string>("slow-node-worker.ts", task);
      proxies.push(proxy);
      const urls = [await proxy.go(1_000), ...others.map(({ url }) => url)];
      for (const library of libraries) {
        const locker = await library.open(urls, "none");
        lockers.push(locker);
        if (delayMs === 0 || library.role !== "peer") await warmUp(locker, false);
        const plan = {
          locks: library.role === "peer" ? PEER_PAIRS_PER_ROUND : PAIRS_PER_ROUND,
          extend: false,
          resources: (index: number) => [`slow:${library.name}:${delayMs}:${index}`],
        };
        runs.set(key(library.name, delayMs), async () => {
          const { acquire, release } = await useAlone(locker, plan);
          return acquire.map((ms, index) => ms + (release[index] ?? NaN));
        });
      }
    }
    const measured = await interleave(rounds, runs);
    return outcome(
      measured,
      libraries.map(({ name }) => name),
    );
  } finally {
    for (const locker of lockers) locker.close();
    for (const proxy of proxies) proxy.end();
  }
}

function key(name: string, delayMs: number): string {
  return `${name}, ${delayMs} ms`;
}

function outcome(
  measured: ReadonlyMap<string, readonly Pairs[]>,
  names: readonly string[],
): Outcome {
  const of = (name: string, delayMs: number): readonly Pairs[] =>
    measured.get(key(name, delayMs)) ?? [];
  const quantiles = (delayMs: number, share: number): number[] =>
    of(OURS, delayMs).map((pairs) => quantile(pairs, share));
  const table = {
    columns: [
      { name: "acquire and release p50 ms" },
      ...DELAYS_MS.map((delayMs) => ({ name: `${delayMs} ms slow`, digits: 3 })),
    ],
    rows: names.map((name) => ({
      name,
      figures: DELAYS_MS.map((delayMs) => spread(of(name, delayMs).map(median))),
    })),
  };
  const goals = DELAYS_MS.slice(1).flatMap((delayMs): Goal[] => {
    const p50 = spread(ratios(quantiles(delayMs, 0.5), quantiles(0, 0.5)));
    const p99 = spread(ratios(quantiles(delayMs, 0.99), quantiles(0, 0.99)));
    return [
      {
        measure: `one node ${delayMs} ms slow: p50, relative to healthy nodes`,
        measured: p50,
        goal: `at most ${MOST_P50_RATIO}`,
        met: p50.median <= MOST_P50_RATIO,
      },
      {
        measure: `one node ${delayMs} ms slow: p99, relative to healthy nodes`,
        measured: p99,
        goal: `at most ${MOST_P99_RATIO}`,
        met: p99.median <= MOST_P99_RATIO,
      },
    ];
  });
  return { tables: [table], goals };
}
