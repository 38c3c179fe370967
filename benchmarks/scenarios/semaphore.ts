import { OURS } from "../libraries.js";
import { interleave, quantile, spread } from "../measure.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { startWorker, type Worker } from "../workers.js";
import type { Task, Turn } from "./semaphore-worker.js";

const PERMITS = 3;
const PROCESSES = 4;
const WORKERS = 4;
const WORK_MS = 2;
const ROUND_MS = 5_000;
const SHORT_ROUND_MS = 2_000;
const REPORT_LIMIT_MS = 30_000;
const LIBRARIES = [OURS, "redis-semaphore"] as const;

export const semaphore: Scenario = {
  name: "semaphore",
  title: "Three permits, sixteen workers",
  about:
    `${PROCESSES} processes with ${WORKERS} workers each take turns under ${PERMITS} permits of one resource, ${WORK_MS} ms of work ` +
    `each, for ${ROUND_MS / 1_000} s a round, each round in new processes: with \`permits: ${PERMITS}\`, and with redis-semaphore’s ` +
    "`RedlockSemaphore`, which counts on each node. “At once” is how many workers worked at the same time at most, from " +
    "the moment when each had its permit to its call of `release`. The turns above the limit are those that began while as " +
    "many others worked as there are permits.",
  rounds: { usual: 20, short: 1 },
  run,
};

interface Round {
  readonly turnsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly most: number;
  readonly aboveLimit: number;
}

async function run({ servers, packageUrl, rounds, short }: Stage): Promise<Outcome> {
  const forMs = short ? SHORT_ROUND_MS : ROUND_MS;
  const runs = new Map(
    LIBRARIES.map((library) => [
      library,
      (round: number) =>
        take({
          packageUrl,
          library,
          urls: servers.map(({ url }) => url),
          key: `semaphore:${library}:${round}`,
          permits: PERMITS,
          workers: WORKERS,
          forMs,
          workMs: WORK_MS,
        }),
    ]),
  );
  return outcome(await interleave(rounds, runs));
}

async function take(task: Task): Promise<Round> {
  const workers: Worker<readonly Turn[]>[] = [];
  try {
    const started = Array.from({ length: PROCESSES }, () =>
      startWorker<readonly Turn[]>("semaphore-worker.ts", task),
    );
    workers.push(...(await Promise.all(started)));
    const reports = workers.map((worker) => worker.go(task.forMs + REPORT_LIMIT_MS));
    return summary((await Promise.all(reports)).flat(), task.forMs);
  } finally {
    for (const worker of workers) worker.end();
  }
}

function summary(turns: readonly Turn[], forMs: number): Round {
  const waits = turns.map(({ askedMs, fromMs }) => fromMs - askedMs);
  const { most, aboveLimit } = crowding(turns);
  return {
    turnsPerSecond: turns.length / (forMs / 1_000),
    p50Ms: quantile(waits, 0.5),
    p99Ms: quantile(waits, 0.99),
    most,
    aboveLimit,
  };
}

/** How many worked at once at most, and how many turns began while all permits were taken. */
function crowding(turns: readonly Turn[]): Pick<Round, "most" | "aboveLimit"> {
  // One that ends in the same moment has made room.
  const events = turns
    .flatMap(({ fromMs, toMs }) => [
      { atMs: fromMs, by: 1 },
      { atMs: toMs, by: -1 },
    ])
    .sort((a, b) => a.atMs - b.atMs || a.by - b.by);
  let now = 0;
  let most = 0;
  let aboveLimit = 0;
  for (const { by } of events) {
    now += by;
    most = Math.max(most, now);
    if (by > 0 && now > PERMITS) aboveLimit += 1;
  }
  return { most, aboveLimit };
}

function outcome(measured: ReadonlyMap<(typeof LIBRARIES)[number], readonly Round[]>): Outcome {
  const of = (library: (typeof LIBRARIES)[number], figure: keyof Round): number[] =>
    (measured.get(library) ?? []).map((round) => round[figure]);
  const most = Math.max(...of(OURS, "most"));
  return {
    tables: [
      {
        columns: [
          { name: `${PROCESSES} × ${WORKERS}, ${PERMITS} permits` },
          { name: "turns/s", digits: 0 },
          { name: "wait p50 ms", digits: 1 },
          { name: "p99 ms", digits: 1 },
          { name: "at once, most", digits: 0 },
          { name: "turns above the limit", digits: 0 },
        ],
        rows: LIBRARIES.map((library) => ({
          name: library,
          figures: [
            spread(of(library, "turnsPerSecond")),
            spread(of(library, "p50Ms")),
            spread(of(library, "p99Ms")),
            Math.max(...of(library, "most")),
            spread(of(library, "aboveLimit")),
          ],
        })),
      },
    ],
    goals: [
      {
        measure: "workers at once, most",
        measured: most,
        digits: 0,
        goal: `at most ${PERMITS}`,
        met: most <= PERMITS,
      },
    ],
  };
}
