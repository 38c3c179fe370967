import { BARE_LOOP, namesOfPeers, OURS, PIPELINING_FLOOR } from "../libraries.js";
import type { Locker } from "../locker.js";
import { againstBest, type Comparison, interleave, median, ratios, spread } from "../measure.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import { type Cost, useTogether, warmUp } from "../workloads.js";

const USERS = [1, 8, 64, 512];
const TURN_MS = 400;
const LEAST_TO_BEST_PEER = 10;
const MOST_CPU_TO_BEST_PEER = 1 / 12;
const WITH_GOALS = [64, 512];

export const users: Scenario = {
  name: "users",
  title: "Many users on distinct keys",
  about:
    `Users in one process acquire and release locks of their own again and again, for ${TURN_MS} ms a ` +
    "round. CPU is that of the client’s process, and of the five servers together, per acquire and release. " +
    `“${PIPELINING_FLOOR.name}” is a program without any lock library that turns on this option of its client. ` +
    `“${BARE_LOOP.name}” sends the operations of a turn as one command, and does nothing else that a lock needs; ` +
    "ioredis builds that command again for each node.",
  rounds: { usual: 20, short: 2 },
  run,
};

async function run({ libraries, servers, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const contestants = [...libraries, PIPELINING_FLOOR, BARE_LOOP];
  const lockers: Locker[] = [];
  const runs = new Map<string, () => Promise<Cost>>();
  try {
    for (const library of contestants) {
      const locker = await library.open(urls, "none");
      lockers.push(locker);
      await warmUp(locker, false);
      for (const count of USERS) {
        const plan = { users: count, forMs: TURN_MS, keyPrefix: `users:${library.name}` };
        runs.set(key(library.name, count), () => useTogether(locker, servers, plan));
      }
    }
    const measured = await interleave(rounds, runs);
    const names = contestants.map(({ name }) => name);
    return outcome(measured, names, namesOfPeers(libraries));
  } finally {
    for (const locker of lockers) locker.close();
  }
}

function key(name: string, count: number): string {
  return `${name}, ${count} users`;
}

function outcome(
  measured: ReadonlyMap<string, readonly Cost[]>,
  names: readonly string[],
  peers: readonly string[],
): Outcome {
  const of = (name: string, count: number, figure: keyof Cost): number[] =>
    (measured.get(key(name, count)) ?? []).map((cost) => cost[figure]);
  const againstPeers = (
    count: number,
    figure: keyof Cost,
    good: "low" | "high",
  ): Comparison | undefined =>
    againstBest(
      of(OURS, count, figure),
      peers.map((name) => ({ name, values: of(name, count, figure) })),
      good,
    );

  const tables = USERS.map((count) => ({
    columns: [
      { name: count === 1 ? "1 user" : `${count} users` },
      { name: "pairs/s", digits: 0 },
      { name: "client CPU µs a pair", digits: 1 },
      { name: "server CPU µs a pair", digits: 1 },
      { name: `${OURS}’s pairs/s, relative to these`, digits: 2 },
    ],
    rows: names.map((name) => ({
      name,
      figures: [
        spread(of(name, count, "pairsPerSecond")),
        spread(of(name, count, "clientCpuUs")),
        spread(of(name, count, "serverCpuUs")),
        name === OURS
          ? undefined
          : spread(ratios(of(OURS, count, "pairsPerSecond"), of(name, count, "pairsPerSecond"))),
      ],
    })),
  }));

  const goals = WITH_GOALS.flatMap((count): Goal[] => {
    const speed = againstPeers(count, "pairsPerSecond", "high");
    const cpu = againstPeers(count, "clientCpuUs", "low");
    const serverCpu = spread(
      ratios(of(OURS, count, "serverCpuUs"), of(PIPELINING_FLOOR.name, count, "serverCpuUs")),
    );
    return [
      {
        measure: `${count} users: pairs/s, relative to the best peer (${speed?.rival ?? "none"})`,
        measured: speed?.ratio,
        goal: `at least ${LEAST_TO_BEST_PEER}`,
        met: speed && speed.ratio.median >= LEAST_TO_BEST_PEER,
      },
      {
        measure: `${count} users: client CPU a pair, relative to the best peer (${cpu?.rival ?? "none"})`,
        measured: cpu?.ratio,
        digits: 3,
        goal: `at most ${MOST_CPU_TO_BEST_PEER.toFixed(3)}`,
        met: cpu && cpu.ratio.median <= MOST_CPU_TO_BEST_PEER,
      },
      {
        measure: `${count} users: server CPU a pair, relative to plain commands in a pipeline`,
        measured: serverCpu,
        goal: "at most 1",
        met: serverCpu.median <= 1,
      },
    ];
  });

  const chart = {
    kind: "lines" as const,
    name: "users",
    title: "Acquire and release on distinct keys, five nodes",
    x: "number" as const,
    xName: "users in one process",
    yName: "pairs/s",
    series: names.map((name) => ({
      name,
      points: USERS.map((count): [number, number] => [
        count,
        median(of(name, count, "pairsPerSecond")),
      ]),
    })),
  };
  return { tables, goals, charts: [chart] };
}
