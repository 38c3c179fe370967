import { ask, type RedisServer } from "../../tests/support/servers.js";
import { type Library, OURS } from "../libraries.js";
import { interleave, median, quantile, spread, sum } from "../measure.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { startWorker, type Worker } from "../workers.js";
import { quantileCurve } from "../workloads.js";
import { crowdGoals, type Round, sharingGoals } from "./contention-goals.js";
import type { Report, Task } from "./contention-worker.js";

interface Shape {
  readonly processes: number;
  readonly workers: number;
}

const FIRST: Shape = { processes: 4, workers: 4 };
const SHARED: readonly Shape[] = [FIRST, { processes: 4, workers: 16 }];
const MANY: Shape = { processes: 1, workers: 1_000 };
/** Only for what it costs them, with this library. */
const FEW: Shape = { processes: 1, workers: MANY.workers / 100 };
const SHAPES: readonly Shape[] = [...SHARED, MANY];
const WORK_MS = 2;
const ROUND_MS = 5_000;
const SHORT_ROUND_MS = 1_000;
/** For the event loops of processes that share the cores with the servers. */
const REPORT_LIMIT_MS = 30_000;
/** Of the first shape. */
const LEAST_TURNS_PER_SECOND = 250;

export const contention: Scenario = {
  name: "contention",
  title: "Contention for one key",
  about:
    `Workers in several processes take turns under one lock, ${WORK_MS} ms of work each, without a pause, ` +
    `for ${ROUND_MS / 1_000} s a round, each round in new processes. They retry without a limit, with the default ` +
    "delays of each library. A wait that the end of a round cuts short counts as it is. Idle is the share of time in " +
    "which nobody held the lock. Commands are those that the five nodes counted, including those that scripts ran.",
  rounds: { usual: 20, short: 1 },
  run,
};

async function run({ libraries, servers, packageUrl, rounds, short }: Stage): Promise<Outcome> {
  const forMs = short ? SHORT_ROUND_MS : ROUND_MS;
  const names = libraries.flatMap(({ name, role }) => (role === "floor" ? [] : [name]));
  const runs = new Map(
    [...SHAPES, FEW].flatMap((shape) =>
      (shape === FEW ? [OURS] : names).map((library) => [
        key(library, shape),
        (round: number) => {
          const lockKey = `contention:${inWords(shape)}:${library}:${round}`;
          const task = { packageUrl, library, key: lockKey, workers: shape.workers, forMs };
          return contend(shape, servers, { ...task, urls: urlsOf(servers), workMs: WORK_MS });
        },
      ]),
    ),
  );
  return outcome(await interleave(rounds, runs), libraries, names);
}

function urlsOf(servers: readonly RedisServer[]): string[] {
  return servers.map(({ url }) => url);
}

function inWords({ processes, workers }: Shape): string {
  return `${processes} × ${workers}`;
}

function key(library: string, shape: Shape): string {
  return `${library}, ${inWords(shape)}`;
}

async function contend(
  { processes }: Shape,
  servers: readonly RedisServer[],
  task: Task,
): Promise<Round> {
  const workers: Worker<Report>[] = [];
  try {
    const starts = Array.from({ length: processes }, async () => {
      workers.push(await startWorker<Report>("contention-worker.ts", task));
    });
    await Promise.all(starts);
    const limitMs = task.forMs + REPORT_LIMIT_MS;
    const before = await commandsOn(servers);
    const reports = await Promise.all(workers.map((worker) => worker.go(limitMs)));
    return summary(reports, (await commandsOn(servers)) - before);
  } finally {
    for (const worker of workers) worker.end();
  }
}

/** How many they ran so far, those of scripts included. */
async function commandsOn(servers: readonly RedisServer[]): Promise<number> {
  const infos = await Promise.all(
    servers.map(({ port }) => ask(port, ["INFO", "commandstats"], 5_000)),
  );
  return sum(
    infos.flatMap((info) => Array.from(info.matchAll(/calls=(\d+)/g), ([, n]) => Number(n))),
  );
}

function summary(reports: readonly Report[], commands: number): Round {
  const tookMs = Math.max(...reports.map((report) => report.tookMs));
  const turns = reports.flatMap((report) => report.turns);
  const total = sum(turns);
  const attempts = reports.flatMap((report) => report.attempts ?? []);
  return {
    turnsPerSecond: total / (tookMs / 1_000),
    waitsMs: reports.flatMap(({ waitsMs }) => waitsMs),
    unluckiest: Math.min(...turns),
    luckiest: Math.max(...turns),
    idlePercent: 100 * (1 - sum(reports.map(({ heldMs }) => heldMs)) / tookMs),
    attemptsPerTurn: attempts.length === 0 ? undefined : sum(attempts) / total,
    commandsPerTurn: commands / total,
  };
}

function outcome(
  measured: ReadonlyMap<string, readonly Round[]>,
  libraries: readonly Library[],
  names: readonly string[],
): Outcome {
  const of = (library: string, shape: Shape): readonly Round[] =>
    measured.get(key(library, shape)) ?? [];
  const waits = (library: string, shape: Shape): number[] =>
    of(library, shape).flatMap(({ waitsMs }) => waitsMs);
  const tables = SHAPES.map((shape) => ({
    columns: [
      { name: inWords(shape) },
      { name: "turns/s", digits: 0 },
      { name: "wait p50 ms", digits: 1 },
      { name: "p90", digits: 1 },
      { name: "p99", digits: 1 },
      { name: "max", digits: 1 },
      { name: "fewest turns of a worker" },
      { name: "most turns of a worker" },
      { name: "idle %", digits: 0 },
      { name: "attempts a turn", digits: 2 },
      { name: "commands a turn, all nodes", digits: 0 },
    ],
    rows: names.map((name) => {
      const rounds = of(name, shape);
      const waitsMs = waits(name, shape);
      const attempts = rounds.flatMap(({ attemptsPerTurn }) => attemptsPerTurn ?? []);
      return {
        name,
        figures: [
          spread(rounds.map(({ turnsPerSecond }) => turnsPerSecond)),
          ...[0.5, 0.9, 0.99, 1].map((share) => quantile(waitsMs, share)),
          median(rounds.map(({ unluckiest }) => unluckiest)),
          median(rounds.map(({ luckiest }) => luckiest)),
          median(rounds.map(({ idlePercent }) => idlePercent)),
          attempts.length === 0 ? undefined : median(attempts),
          median(rounds.map(({ commandsPerTurn }) => commandsPerTurn)),
        ],
      };
    }),
  }));

  const charts = SHAPES.map((shape) => ({
    kind: "lines" as const,
    name: `contention-${shape.processes}x${shape.workers}`,
    title: `Waits for one key, ${inWords(shape)} workers, ${WORK_MS} ms of work`,
    x: "quantile" as const,
    xName: "share of the waits",
    yName: "ms",
    series: names.map((name) => ({ name, points: quantileCurve(waits(name, shape)) })),
  }));

  const turns = spread(of(OURS, FIRST).map(({ turnsPerSecond }) => turnsPerSecond));
  const goals = [
    {
      measure: `${inWords(FIRST)} on one key: turns/s`,
      measured: turns,
      digits: 0,
      goal: `at least ${LEAST_TURNS_PER_SECOND}`,
      met: turns.median >= LEAST_TURNS_PER_SECOND,
    },
    ...SHARED.flatMap((shape) =>
      sharingGoals(inWords(shape), (library) => of(library, shape), libraries),
    ),
    ...crowdGoals(inWords(MANY), of(OURS, MANY), of(OURS, FEW)),
  ];
  return { tables, goals, charts };
}
