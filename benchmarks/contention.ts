// Many workers on one key, plain polling: turns a second, the waits, and how fair it is.
//
//   npx tsx benchmarks/contention.ts [--check] [--rounds 20]
//
// `npm ci` in this folder adds node-redlock 5 to the comparison.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { ask, type RedisServer, startServers, stopAll } from "../docker/servers.js";
import type { Report, Task } from "./contention-worker.js";
import {
  conclude,
  type Goal,
  interleave,
  median,
  type Options,
  printTable,
  quantile,
  readOptions,
  spread,
  spreadInText,
} from "./measure.js";
import { buildPackage } from "./package-under-test.js";
import { installedLibraries, type Library, NODE_REDLOCK_5, OURS } from "./peers.js";

const PROCESSES = 4;
const WORKERS = 4;
const ROUND_MS = 5_000;
const LEAST_TURNS_PER_SECOND = 250;
/** A worker that waits without end is given the lock when its round is over. */
const DRAIN_INTERVAL_MS = 50;
const DRAIN_LIMIT_MS = 20_000;

/** One round of one library, of all processes together. */
interface Round {
  readonly turnsPerSecond: number;
  readonly waitsMs: readonly number[];
  readonly unluckiest: number;
  readonly luckiest: number;
  /** Share of the time in which nobody held the lock. */
  readonly idle: number;
  readonly attemptsPerTurn: number;
  readonly splitVotesPerTurn: number;
}

async function startProcess(packageUrl: string): Promise<ChildProcess> {
  const ports = servers.map(({ port }) => String(port));
  const child = fork(join(import.meta.dirname, "contention-worker.ts"), [packageUrl, ...ports]);
  processes.push(child);
  await answerOf(child);
  return child;
}

async function answerOf(child: ChildProcess): Promise<unknown> {
  const signal = AbortSignal.timeout(ROUND_MS + DRAIN_LIMIT_MS);
  const gone = once(child, "exit", { signal }).then(([code]) => {
    throw new Error(`A worker process ended with code ${String(code)}`);
  });
  gone.catch(() => undefined);
  const [answer] = (await Promise.race([once(child, "message", { signal }), gone])) as unknown[];
  return answer;
}

async function runRound(library: Library, round: number): Promise<Round> {
  const key = `contention:${library}:${round}`;
  const task: Task = { library, key, workers: WORKERS, forMs: ROUND_MS };
  const answers = processes.map((child) => {
    child.send(task);
    return answerOf(child);
  });
  const drain = setTimeout(() => {
    drainTimer = setInterval(() => void free(servers, key), DRAIN_INTERVAL_MS);
  }, ROUND_MS);
  let drainTimer: NodeJS.Timeout | undefined;
  try {
    return summary((await Promise.all(answers)) as Report[]);
  } finally {
    clearTimeout(drain);
    clearInterval(drainTimer);
  }
}

async function free(nodes: readonly RedisServer[], key: string): Promise<void> {
  await Promise.all(nodes.map(({ port }) => ask(port, ["DEL", key]))).catch(() => undefined);
}

function summary(reports: readonly Report[]): Round {
  const turns = reports.flatMap((report) => report.turns);
  const total = sum(turns);
  return {
    turnsPerSecond: total / (ROUND_MS / 1_000),
    waitsMs: reports.flatMap(({ waitsMs }) => waitsMs),
    unluckiest: Math.min(...turns),
    luckiest: Math.max(...turns),
    idle: 1 - sum(reports.map(({ heldMs }) => heldMs)) / ROUND_MS,
    attemptsPerTurn: sum(reports.map(({ attempts }) => attempts)) / total,
    splitVotesPerTurn: sum(reports.map(({ splitVotes }) => splitVotes)) / total,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function report(measured: ReadonlyMap<string, readonly Round[]>, options: Options): void {
  const rows = [...measured].map(([library, rounds]) => {
    const waitsMs = rounds.flatMap((round) => round.waitsMs);
    const middle = (read: (round: Round) => number, digits: number): string =>
      median(rounds.map(read)).toFixed(digits);
    return [
      library,
      spreadInText(spread(rounds.map(({ turnsPerSecond }) => turnsPerSecond)), 0),
      ...[0.5, 0.99, 1].map((share) => quantile(waitsMs, share).toFixed(1)),
      `${middle(({ unluckiest }) => unluckiest, 0)} / ${middle(({ luckiest }) => luckiest, 0)}`,
      `${middle(({ idle }) => 100 * idle, 0)} %`,
      middle(({ attemptsPerTurn }) => attemptsPerTurn, 2),
      middle(({ splitVotesPerTurn }) => splitVotesPerTurn, 3),
    ];
  });
  printTable(
    [
      `${PROCESSES} × ${WORKERS}`,
      "turns/s (quartiles)",
      "wait p50 ms",
      "p99",
      "max",
      "unluckiest / luckiest",
      "lock idle",
      "attempts a turn",
      "split votes a turn",
    ],
    rows,
  );
  console.log(
    `\nA wait that the end of its round of ${ROUND_MS / 1_000} s cut short counts as it is.`,
  );

  const goals = [...measured].map(([library, rounds]): Goal => {
    const turns = spread(rounds.map(({ turnsPerSecond }) => turnsPerSecond));
    const measure = `${library}: turns/s`;
    return library === OURS
      ? {
          measure,
          measured: spreadInText(turns, 0),
          goal: `at least ${LEAST_TURNS_PER_SECOND}`,
          met: turns.median >= LEAST_TURNS_PER_SECOND,
        }
      : { measure, measured: spreadInText(turns, 0), goal: "" };
  });
  conclude(goals, options);
}

const options = readOptions();
const libraries = installedLibraries();
if (!libraries.includes(NODE_REDLOCK_5)) {
  console.log("Without node-redlock 5: it is not installed (npm ci in benchmarks/).");
}
const servers = await startServers(5);
const processes: ChildProcess[] = [];
try {
  const packageUrl = await buildPackage();
  await Promise.all(Array.from({ length: PROCESSES }, () => startProcess(packageUrl)));
  const runs = new Map(
    libraries.map((library) => [library, (round: number) => runRound(library, round)]),
  );
  report(await interleave(options.rounds, runs), options);
} finally {
  for (const child of processes) child.kill();
  await stopAll(servers);
}
