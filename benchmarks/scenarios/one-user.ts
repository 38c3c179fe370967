import { FLOOR, type Library, libraryNamed, namesOfPeers, OURS } from "../libraries.js";
import type { Locker } from "../locker.js";
import { againstBest, interleave, ratios, spread } from "../measure.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import {
  type Latencies,
  medians,
  PERCENTILES,
  percentiles,
  quantileCurve,
  STEPS,
  type Step,
  useAlone,
  warmUp,
} from "../workloads.js";

/** Few, so that the contestants of a round meet the same moment of the machine. */
const LOCKS_PER_ROUND = 100;
const MOST_TO_FLOOR = 1.1;
const FLOOR_AGAIN = `${FLOOR}, again`;

export const oneUser: Scenario = {
  name: "one-user",
  title: "One user",
  about:
    `One user acquires, extends and releases one lock after the other, ${LOCKS_PER_ROUND} a round. ` +
    `“${FLOOR}” is the floor: it sends the same commands with the same random value, and is done when three of five ` +
    "nodes have granted them. The second floor shows how much two equal contestants differ. Percentiles are of all " +
    "rounds together. Ratios are of the p50s of the same round.",
  rounds: { usual: 100, short: 5 },
  run,
};

async function run({ libraries, servers, rounds }: Stage): Promise<Outcome> {
  const contestants: [string, Library][] = libraries.map((library) => [library.name, library]);
  contestants.push([FLOOR_AGAIN, libraryNamed(libraries, FLOOR)]);
  const urls = servers.map(({ url }) => url);
  const lockers: Locker[] = [];
  const runs = new Map<string, () => Promise<Latencies>>();
  try {
    for (const [name, library] of contestants) {
      const locker = await library.open(urls, "none");
      lockers.push(locker);
      await warmUp(locker, library.extends);
      const plan = {
        locks: LOCKS_PER_ROUND,
        extend: library.extends,
        resources: (index: number) => [`one-user:${name}:${index}`],
      };
      runs.set(name, () => useAlone(locker, plan));
    }
    return outcome(await interleave(rounds, runs), namesOfPeers(libraries));
  } finally {
    for (const locker of lockers) locker.close();
  }
}

function outcome(
  measured: ReadonlyMap<string, readonly Latencies[]>,
  peers: readonly string[],
): Outcome {
  const of = (name: string, step: Step): number[][] =>
    (measured.get(name) ?? []).map((latencies) => latencies[step]);
  const p50s = (name: string, step: Step): number[] => medians(of(name, step));
  const tables = STEPS.map((step) => ({
    columns: [
      { name: step },
      ...PERCENTILES.map(({ name }) => ({ name: `${name} ms`, digits: 3 })),
      { name: "p50, relative to the floor", digits: 3 },
    ],
    rows: [...measured.keys()]
      .filter((name) => of(name, step).flat().length > 0)
      .map((name) => ({
        name,
        figures: [
          ...percentiles(of(name, step)),
          name === FLOOR ? undefined : spread(ratios(p50s(name, step), p50s(FLOOR, step))),
        ],
      })),
  }));
  const goals = STEPS.flatMap((step): Goal[] => {
    const toFloor = spread(ratios(p50s(OURS, step), p50s(FLOOR, step)));
    const able = peers.filter((name) => of(name, step).flat().length > 0);
    const toPeer = againstBest(
      p50s(OURS, step),
      able.map((name) => ({ name, values: p50s(name, step) })),
      "low",
    );
    return [
      {
        measure: `one user: ${step} p50, relative to the floor`,
        measured: toFloor,
        goal: `at most ${MOST_TO_FLOOR.toFixed(2)}`,
        met: toFloor.median <= MOST_TO_FLOOR,
      },
      {
        measure: `one user: ${step} p50, relative to the best peer (${toPeer?.rival ?? "none"})`,
        measured: toPeer?.ratio,
        goal: "below 1",
        met: toPeer && toPeer.ratio.median < 1,
      },
    ];
  });
  const chart = {
    kind: "lines" as const,
    name: "one-user",
    title: "Acquire, one user, five nodes: latency distribution",
    x: "quantile" as const,
    xName: "share of the acquires",
    yName: "ms",
    series: [...measured.keys()]
      .filter((name) => name !== FLOOR_AGAIN)
      .map((name) => ({ name, points: quantileCurve(of(name, "acquire").flat()) })),
  };
  return { tables, goals, charts: [chart] };
}
