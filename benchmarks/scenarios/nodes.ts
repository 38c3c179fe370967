import { startServers, stopAll } from "../../tests/support/servers.js";
import { OURS } from "../libraries.js";
import type { Locker } from "../locker.js";
import { interleave, median, ratios, spread } from "../measure.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { type Cost, useAlone, useTogether, warmUp } from "../workloads.js";

const NODES = [1, 3, 5, 7, 9];
const USERS = 64;
const TURN_MS = 200;
const LONE_LOCKS = 50;
const [FROM, TO] = [3, 9];

export const nodes: Scenario = {
  name: "nodes",
  title: "One to nine nodes",
  about:
    `On one to nine nodes, ${USERS} users work as above for ${TURN_MS} ms a round, and one user acquires and ` +
    `releases ${LONE_LOCKS} locks.`,
  rounds: { usual: 20, short: 2 },
  run,
};

interface Round extends Cost {
  /** Of an acquire and a release by one user. */
  readonly lonePairMs: number;
}

async function run({ libraries, servers, rounds }: Stage): Promise<Outcome> {
  const more = await startServers(Math.max(...NODES) - servers.length);
  const all = [...servers, ...more];
  const lockers: Locker[] = [];
  const runs = new Map<string, () => Promise<Round>>();
  try {
    for (const library of libraries) {
      for (const count of NODES) {
        const chosen = all.slice(0, count);
        const urls = chosen.map(({ url }) => url);
        const locker = await library.open(urls, "none");
        lockers.push(locker);
        await warmUp(locker, false);
        const plan = {
          locks: LONE_LOCKS,
          extend: false,
          resources: (index: number) => [`nodes:${library.name}:${index}`],
        };
        const keyPrefix = `nodes:${library.name}`;
        const crowd = { users: USERS, forMs: TURN_MS, keyPrefix };
        runs.set(key(library.name, count), async () => {
          const { acquire, release } = await useAlone(locker, plan);
          const cost = await useTogether(locker, chosen, crowd);
          return { ...cost, lonePairMs: median(acquire) + median(release) };
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
    await stopAll(more);
  }
}

function key(name: string, count: number): string {
  return `${name}, ${count} nodes`;
}

function outcome(
  measured: ReadonlyMap<string, readonly Round[]>,
  names: readonly string[],
): Outcome {
  const of = (name: string, count: number, figure: keyof Round): number[] =>
    (measured.get(key(name, count)) ?? []).map((round) => round[figure]);
  const shown: readonly { figure: keyof Round; title: string; digits: number }[] = [
    { figure: "clientCpuUs", title: `client CPU µs a pair, ${USERS} users`, digits: 1 },
    { figure: "pairsPerSecond", title: `pairs/s, ${USERS} users`, digits: 0 },
    { figure: "lonePairMs", title: "acquire and release p50 ms, one user", digits: 3 },
  ];
  const tables = shown.map(({ figure, title, digits }) => ({
    columns: [{ name: title }, ...NODES.map((count) => ({ name: `N = ${count}`, digits }))],
    rows: names.map((name) => ({
      name,
      figures: NODES.map((count) => median(of(name, count, figure))),
    })),
  }));
  const costs = [
    { figure: "clientCpuUs", words: `client CPU a pair, ${USERS} users` },
    { figure: "lonePairMs", words: "acquire and release p50, one user" },
  ] as const;
  const goals = costs.map(({ figure, words }) => {
    const growth = spread(ratios(of(OURS, TO, figure), of(OURS, FROM, figure)));
    return {
      measure: `${words}: ${TO} nodes, relative to ${FROM}`,
      measured: growth,
      goal: `at most ${TO / FROM}`,
      met: growth.median <= TO / FROM,
    };
  });
  return { tables, goals };
}
