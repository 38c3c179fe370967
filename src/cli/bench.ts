import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import type { Lock, Redlock } from "../index.js";
import { makeCommand } from "./command.js";
import { duration } from "./duration.js";
import { asFailure, EXIT, wrongCall } from "./failure.js";
import { type NodeOptions, NODES_HELP, readConfig, withNodeOptions } from "./nodes.js";
import { inMs, JSON_OPTION, print, printJson, table, withNodes } from "./report.js";
import { Interrupted, Signals, statusOfSignal } from "./signals.js";

const USUAL_USERS = 16;
const USUAL_COUNT = 1000;
const USUAL_DURATION_MS = 10_000;
const MOST_USERS = 1000;
const TTL_MS = 10_000;
/** Not counted: they load the scripts into the nodes, and the code into this process. */
const WARM_UP_LOCKS = 10;
const STEPS = ["acquire", "extend", "release"] as const;

type Step = (typeof STEPS)[number];

interface BenchOptions extends NodeOptions {
  readonly users?: number;
  readonly count?: number;
  readonly duration?: number;
  readonly json?: boolean;
}

/** What some users at once have measured. */
interface Part {
  readonly users: number;
  readonly locks: number;
  readonly locksPerSecond: number;
  readonly steps: Readonly<Record<Step, Latency>>;
}

interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

const HELP = `
First one user acquires, extends and releases one lock after the other, then
several users at once do so, each with locks of its own. Each of the two parts
ends after --count locks, or half of --duration.

The locks are named redlock-bench and a random number, so that no other program
waits for one of them. All are released at the end, also after Ctrl-C. It is
work for the nodes: other clients have to wait longer meanwhile.
${NODES_HELP}

Exit status: 0, or
  64  wrong arguments
  69  no quorum of the nodes granted a lock
  130 Ctrl-C ended it; 128 + n for signal n

Examples:
  redlock bench
  redlock bench --users 64 --count 10000 --duration 1m
  redlock bench --json | jq '.[0].steps.acquire.p99Ms'`;

/** Makes `redlock bench`. */
export function benchCommand(): Command {
  const command = makeCommand("bench", "measure how long the nodes take for a lock")
    .description("Measures how long your nodes take to acquire, extend and release locks.")
    .usage("[options]")
    .option("--users <n>", `how many at once in the second part (default: ${USUAL_USERS})`, users)
    .option("--count <n>", `how many locks in each part, at most (default: ${USUAL_COUNT})`, count)
    .option("--duration <time>", "how long both parts take, at most (default: 10s)", duration)
    .option(...JSON_OPTION);
  return withNodeOptions(command)
    .addHelpText("after", HELP)
    .action(async (options: BenchOptions) => {
      process.exitCode = await bench(options);
    });
}

async function bench(options: BenchOptions): Promise<number> {
  const { users: most = USUAL_USERS, count: locks = USUAL_COUNT, json = false } = options;
  const durationMs = options.duration ?? USUAL_DURATION_MS;
  if (durationMs === 0) throw wrongCall("--duration is 0. Give a longer time, such as 10s.");
  const signals = new Signals();
  const parts = most === 1 ? [1] : [1, most];
  const measureAll = async (redlock: Redlock): Promise<Part[]> => {
    const measured: Part[] = [];
    await measure(redlock, 1, WARM_UP_LOCKS, Infinity, signals.waiting);
    for (const each of parts) {
      const part = await measure(redlock, each, locks, durationMs / parts.length, signals.waiting);
      measured.push(part);
    }
    return measured;
  };
  try {
    const measured = await withNodes(options, readConfig(options), measureAll);
    if (json) printJson(measured);
    else print(inText(measured));
    return EXIT.ok;
  } catch (error) {
    if (error instanceof Interrupted) return statusOfSignal(error.signal);
    throw asFailure(error);
  }
}

async function measure(
  redlock: Redlock,
  userCount: number,
  most: number,
  forMs: number,
  signal: AbortSignal,
): Promise<Part> {
  // No user's lock can have this name, and nobody waits for it.
  const name = `redlock-bench:${randomUUID()}`;
  const times = { acquire: [] as number[], extend: [] as number[], release: [] as number[] };
  const beganMs = performance.now();
  let left = most;
  let failure: unknown;
  const timed = async <T>(step: Step, action: () => Promise<T>): Promise<T> => {
    const sinceMs = performance.now();
    const result = await action();
    times[step].push(performance.now() - sinceMs);
    return result;
  };
  const cycle = async (resource: string): Promise<void> => {
    const lock = await timed("acquire", () => redlock.acquire(resource, TTL_MS, { signal }));
    let isReleased = false;
    try {
      await timed("extend", () => redlock.extend(lock, TTL_MS));
      await timed("release", () => redlock.release(lock));
      isReleased = true;
    } finally {
      if (!isReleased) await giveUp(lock);
    }
  };
  const user = async (_: unknown, index: number): Promise<void> => {
    while (failure === undefined && left > 0 && performance.now() - beganMs < forMs) {
      left -= 1;
      await cycle(`${name}:${index}`).catch((error: unknown) => (failure ??= error));
    }
  };
  await Promise.all(Array.from({ length: userCount }, user));
  const tookMs = performance.now() - beganMs;
  signal.throwIfAborted();
  if (failure !== undefined) throw asFailure(failure);
  const locks = times.release.length;
  return {
    users: userCount,
    locks,
    locksPerSecond: Math.round((locks / tookMs) * 1000),
    steps: {
      acquire: latencyOf(times.acquire),
      extend: latencyOf(times.extend),
      release: latencyOf(times.release),
    },
  };
}

/** Releases a lock after a failure, as far as the nodes reply. What is left ends after its ttl. */
async function giveUp(lock: Lock): Promise<void> {
  await lock.release().catch(() => undefined);
}

function latencyOf(times: readonly number[]): Latency {
  const sorted = Float64Array.from(times).sort();
  const quantile = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? 0;
  const rounded = (ms: number): number => Math.round(ms * 1000) / 1000;
  return {
    p50Ms: rounded(quantile(0.5)),
    p99Ms: rounded(quantile(0.99)),
    maxMs: rounded(quantile(1)),
  };
}

function inText(parts: readonly Part[]): string {
  const sections = parts.map(({ users: many, locks, locksPerSecond, steps }) => {
    const rows = STEPS.map((step) => {
      const { p50Ms, p99Ms, maxMs } = steps[step];
      return [step, inMs(p50Ms), inMs(p99Ms), inMs(maxMs)];
    });
    const who = many === 1 ? "1 user" : `${many} users at once`;
    const head = `${who}: ${locks} locks, ${locksPerSecond} a second`;
    return `${head}\n${table([["", "p50", "p99", "longest"], ...rows])}`;
  });
  return sections.join("\n\n");
}

function users(text: string): number {
  return wholeNumber(text, MOST_USERS);
}

function count(text: string): number {
  return wholeNumber(text, 1_000_000);
}

function wholeNumber(text: string, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : NaN;
  if (number >= 1 && number <= most) return number;
  throw new InvalidArgumentError(`Give a whole number from 1 to ${most}.`);
}
