import type * as tracing from "../../src/algorithm/tracing.js";
import { interleave, median, ratios, spread } from "../measure.js";
import { buildPackage, urlOfEntry } from "../package-under-test.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import { startWorker } from "../workers.js";
import type { Report, Task } from "./telemetry-worker.js";

const USERS = [1, 64];
const TURNS = 4;
const TURN_MS = 400;
const TURN_LIMIT_MS = 60_000;

const NOBODY = "nobody listens";
const WITHOUT = "without channels";
const AGAIN = "without channels, again";
const METRICS = "metrics";
const SPANS = "spans";

const CHECKS = 1_000_000;
const CHECK_ROUNDS = 9;
const MOST_FOR_CHECKS = 0.01;
const MOST_FOR_METRICS = 0.1;

export const telemetry: Scenario = {
  name: "telemetry",
  title: "Channels, metrics and spans",
  about:
    "CPU time of the client’s process per acquire and release on distinct keys. “Without channels” is a build from which " +
    "`src/algorithm/tracing.ts` is taken out; it takes part twice, which shows what the machine cannot tell. Metrics and " +
    "spans are those of `redlock-quorum/opentelemetry` with the SDK of OpenTelemetry. The metrics are read at the end of " +
    "each turn, and all spans are recorded, in batches, and dropped by the exporter. Each round starts a process for " +
    `each row, which warms up and has ${TURNS} turns of ${TURN_MS} ms; the processes take turns, and the median of the ` +
    "turns counts. A ratio is taken within a round. The checks are also timed by themselves: those of one acquire and " +
    "release, a million times.",
  rounds: { usual: 15, short: 2 },
  run,
};

async function run({ servers, packageUrl, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const bareUrl = await buildPackage({ hasChannels: false });
  const task = { urls, users: USERS, forMs: TURN_MS };
  const tasks = new Map<string, Task>([
    [WITHOUT, { ...task, packageUrl: bareUrl, observes: "nothing" }],
    [NOBODY, { ...task, packageUrl, observes: "nothing" }],
    [METRICS, { ...task, packageUrl, observes: "metrics" }],
    [SPANS, { ...task, packageUrl, observes: "spans" }],
    [AGAIN, { ...task, packageUrl: bareUrl, observes: "nothing" }],
  ]);
  const measured = new Map([...tasks.keys()].map((name) => [name, [] as Report[]]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, report] of await measureRound(tasks)) measured.get(name)?.push(report);
  }
  return outcome(measured, await checksNs());
}

/** In new processes: what the compiler made of one is the same for all its turns. */
async function measureRound(tasks: ReadonlyMap<string, Task>): Promise<Map<string, Report>> {
  const ends: (() => void)[] = [];
  try {
    const turns = new Map<string, () => Promise<Report>>();
    for (const [name, task] of tasks) {
      const worker = await startWorker<Report>("telemetry-worker.ts", task);
      ends.push(() => {
        worker.end();
      });
      turns.set(name, () => worker.go(TURN_LIMIT_MS));
    }
    const reports = [...(await interleave(TURNS, turns))];
    return new Map(
      reports.map(([name, of]) => [
        name,
        USERS.map((_, index) => median(of.map((costs) => costs[index] ?? NaN))),
      ]),
    );
  } finally {
    for (const end of ends) end();
  }
}

/** Times what the channels add to one acquire and release that nobody listens to, in ns. */
async function checksNs(): Promise<number> {
  // Of this source, whatever is measured: a published package does not export it.
  const url = urlOfEntry(await buildPackage(), "tracing");
  const { traceAcquire, traceRelease, publishEvent } = (await import(url)) as typeof tracing;
  const done = Promise.resolve(null);
  // Nobody listens, so nothing looks into it.
  const call = {} as unknown as Parameters<typeof traceAcquire>[0] &
    Parameters<typeof traceRelease>[0];
  const runIt = (): Promise<null> => done;
  const payload = (): never => {
    throw new Error("Nobody listens.");
  };
  const timeMs = (pair: () => void): number => {
    const startMs = performance.now();
    for (let index = 0; index < CHECKS; index++) pair();
    return performance.now() - startMs;
  };
  const checked = (): void => {
    void traceAcquire(call, runIt);
    publishEvent("acquired", payload);
    void traceRelease(call, runIt);
    publishEvent("released", payload);
  };
  const bare = (): void => {
    void runIt();
    void runIt();
  };
  const all: number[] = [];
  for (let round = 0; round < CHECK_ROUNDS; round++) all.push(timeMs(checked) - timeMs(bare));
  return (median(all) / CHECKS) * 1e6;
}

function outcome(measured: ReadonlyMap<string, readonly Report[]>, checks: number): Outcome {
  const of = (name: string, index: number): number[] =>
    (measured.get(name) ?? []).map((costs) => costs[index] ?? NaN);
  const tables = USERS.map((users, index) => ({
    columns: [
      { name: users === 1 ? "1 user" : `${users} users` },
      { name: "client CPU µs a pair", digits: 1 },
      { name: `relative to “${WITHOUT}”`, digits: 3 },
      { name: `relative to “${NOBODY}”`, digits: 3 },
    ],
    rows: [...measured.keys()].map((name) => ({
      name,
      figures: [
        spread(of(name, index)),
        name === WITHOUT ? undefined : spread(ratios(of(name, index), of(WITHOUT, index))),
        name === NOBODY ? undefined : spread(ratios(of(name, index), of(NOBODY, index))),
      ],
    })),
  }));
  const shares = USERS.map((_, index) => checks / 1_000 / median(of(NOBODY, index)));
  const goals = USERS.flatMap((users, index): Goal[] => {
    const who = users === 1 ? "1 user" : `${users} users`;
    const ratio = spread(ratios(of(METRICS, index), of(NOBODY, index)));
    return [
      {
        measure: `${who}: the checks of an acquire and release that nobody listens to (${checks.toFixed(0)} ns), share of its CPU`,
        measured: shares[index] ?? NaN,
        digits: 5,
        goal: `under ${MOST_FOR_CHECKS}`,
        met: (shares[index] ?? NaN) < MOST_FOR_CHECKS,
      },
      {
        measure: `${who}: CPU with metrics, relative to nobody listening`,
        measured: ratio,
        digits: 3,
        goal: `under ${(1 + MOST_FOR_METRICS).toFixed(2)}`,
        met: ratio.median < 1 + MOST_FOR_METRICS,
      },
    ];
  });
  return { tables, goals };
}
