import type { RedisServer } from "../../tests/support/servers.js";
import { interleave, median, quantile, ratios, type Spread, spread } from "../measure.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import { startWorker, type Worker } from "../workers.js";
import type { Task, Tenure } from "./line-worker.js";

const PROCESSES = 4;
const WORKERS = 4;
const WORK_MS = 2;
const ROUND_MS = 5_000;
const SHORT_ROUND_MS = 1_000;
const REPORT_LIMIT_MS = 30_000;
const MOST_ROUND_TRIPS = 3;
const MOST_HAND_OVER_RATIO = 1.5;
const LEAST_TURNS_RATIO = 0.7;
const GONE = 2;

/** What is different from 4 × 4 on five healthy nodes. */
interface Case {
  readonly name: string;
  readonly nodes?: "hung" | "dead";
  /** One process more, whose turns do not count. */
  readonly extra?: Pick<Task, "kind"> & { readonly waitsForTwo?: true };
}

const PLAIN: Case = { name: "plain" };
const FAILING: readonly Case[] = [
  { name: `${GONE} of 5 nodes hung`, nodes: "hung" },
  { name: `${GONE} of 5 nodes dead`, nodes: "dead" },
];
const BESIDE: readonly Case[] = [
  { name: "and a waiter for two resources", extra: { waitsForTwo: true } },
  { name: "and a waiter that nodes cannot notify", extra: { kind: "mute" } },
  { name: "and a waiter that died in the queue", extra: { kind: "dying", waitsForTwo: true } },
];
const CASES = [PLAIN, ...FAILING, ...BESIDE];

export const line: Scenario = {
  name: "line",
  title: "Waiting in the queue",
  about:
    `${PROCESSES} processes with ${WORKERS} workers each take turns under one lock of this library, ${WORK_MS} ms of ` +
    `work each, for ${ROUND_MS / 1_000} s a round, each round in new processes. A hand-over is the time from the call ` +
    "of `release` in one process to the start of the next worker’s work in another. A round trip is the median time " +
    "that the releases of the same round took. The turns of the added waiter do not count.",
  rounds: { usual: 20, short: 1 },
  run,
};

interface Round {
  readonly turnsPerSecond: number;
  readonly handOversMs: readonly number[];
  readonly roundTripMs: number;
}

async function run({ servers, packageUrl, rounds, short }: Stage): Promise<Outcome> {
  const forMs = short ? SHORT_ROUND_MS : ROUND_MS;
  const runs = new Map(
    CASES.map((one) => [
      one.name,
      (round: number) => {
        const resource = `line:${CASES.indexOf(one)}:${round}`;
        const task: Task = {
          packageUrl,
          urls: servers.map(({ url }) => url),
          resources: [resource],
          workers: WORKERS,
          forMs,
          workMs: WORK_MS,
        };
        return take(one, task, goneIn(round, servers));
      },
    ]),
  );
  return outcome(await interleave(rounds, runs));
}

/** Other ones each round: not always the first that are asked. */
function goneIn(round: number, servers: readonly RedisServer[]): readonly RedisServer[] {
  const from = round % servers.length;
  return [...servers.slice(from), ...servers.slice(0, from)].slice(0, GONE);
}

async function take(
  { nodes, extra }: Case,
  task: Task,
  gone: readonly RedisServer[],
): Promise<Round> {
  const workers: Worker<readonly Tenure[]>[] = [];
  const start = async (own: Task): Promise<Worker<readonly Tenure[]>> => {
    const worker = await startWorker<readonly Tenure[]>("line-worker.ts", own);
    workers.push(worker);
    return worker;
  };
  try {
    const tasks = Array.from({ length: PROCESSES }, () => task);
    const counted = await Promise.all(tasks.map(start));
    const another = extra && (await start(different(task, extra)));
    if (nodes === "hung") await Promise.all(gone.map((node) => node.freeze()));
    if (nodes === "dead") await Promise.all(gone.map((node) => node.kill()));
    const limitMs = task.forMs + REPORT_LIMIT_MS;
    const reports = counted.map((worker) => worker.go(limitMs));
    // One who dies does not report.
    another?.go(limitMs).catch(() => undefined);
    return summary((await Promise.all(reports)).flat(), task.forMs);
  } finally {
    for (const worker of workers) worker.end();
    for (const node of gone) {
      if (nodes === "hung") node.thaw();
      if (nodes === "dead") await node.restart();
    }
  }
}

function different(task: Task, { kind, waitsForTwo }: NonNullable<Case["extra"]>): Task {
  const [resource = ""] = task.resources;
  return {
    ...task,
    workers: 1,
    resources: waitsForTwo ? [resource, `${resource}:second`] : [resource],
    ...(kind && { kind }),
  };
}

function summary(tenures: readonly Tenure[], forMs: number): Round {
  const inOrder = tenures.toSorted((a, b) => a.fromMs - b.fromMs);
  return {
    turnsPerSecond: inOrder.length / (forMs / 1_000),
    handOversMs: inOrder
      .slice(1)
      .map(({ fromMs }, index) => fromMs - (inOrder[index]?.toMs ?? NaN)),
    roundTripMs: median(tenures.map(({ releaseMs }) => releaseMs)),
  };
}

function outcome(measured: ReadonlyMap<string, readonly Round[]>): Outcome {
  const of = ({ name }: Case): readonly Round[] => measured.get(name) ?? [];
  const handOvers = (one: Case): number[] => of(one).map(({ handOversMs }) => median(handOversMs));
  const roundTrips = (one: Case): number[] => of(one).map(({ roundTripMs }) => roundTripMs);
  const turns = (one: Case): number[] => of(one).map(({ turnsPerSecond }) => turnsPerSecond);
  const table = {
    columns: [
      { name: `${PROCESSES} × ${WORKERS}` },
      { name: "turns/s", digits: 0 },
      { name: "hand-over p50 ms", digits: 2 },
      { name: "p99 ms", digits: 2 },
      { name: "round trip ms", digits: 2 },
      { name: "hand-over p50 in round trips", digits: 2 },
    ],
    rows: CASES.map((one) => ({
      name: one.name,
      figures: [
        spread(turns(one)),
        spread(handOvers(one)),
        spread(of(one).map(({ handOversMs }) => quantile(handOversMs, 0.99))),
        spread(roundTrips(one)),
        spread(ratios(handOvers(one), roundTrips(one))),
      ],
    })),
  };
  return {
    tables: [table],
    goals: [
      atMost(
        "hand-over p50 in round trips",
        ratios(handOvers(PLAIN), roundTrips(PLAIN)),
        MOST_ROUND_TRIPS,
      ),
      ...FAILING.map((one) =>
        atMost(
          `${one.name}: hand-over p50, relative to healthy nodes`,
          ratios(handOvers(one), handOvers(PLAIN)),
          MOST_HAND_OVER_RATIO,
        ),
      ),
      ...BESIDE.map((one): Goal => {
        const share = spread(ratios(turns(one), turns(PLAIN)));
        return {
          measure: `4 × 4 ${one.name}: turns/s of the others, relative to plain`,
          measured: share,
          goal: `at least ${LEAST_TURNS_RATIO}`,
          met: share.median >= LEAST_TURNS_RATIO,
        };
      }),
    ],
  };
}

function atMost(measure: string, values: readonly number[], most: number): Goal {
  const measured: Spread = spread(values);
  return { measure, measured, goal: `at most ${most}`, met: measured.median <= most };
}
