// `npm run demo`: four processes add to one counter under the lock while two of five nodes fail.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { up } from "./cluster.js";
import {
  countOverlaps,
  figuresOf,
  figuresTable,
  nowUs,
  type Phase,
  type Turn,
} from "./demo-report.js";
import { type Cluster, defaultSite, nodesOf } from "./nodes.js";

const WORKER = join(import.meta.dirname, "demo-worker.ts");
const WORKER_COUNT = 4;
const WORKER_START_TIMEOUT_MS = 15_000;
const WORKER_END_TIMEOUT_MS = 5_000;
const HEALTHY_MS = 3_000;
const FAULTY_MS = 5_000;

const interrupted = new AbortController();

interface Demo {
  readonly cluster: Cluster;
  readonly folder: string;
  readonly workers: ChildProcess[];
}

/** True where no increment was lost and no two workers were in the critical section at once. */
async function run(local: boolean): Promise<boolean> {
  const { cluster, started, dataIsNew } = await up(defaultSite, local);
  const folder = await mkdtemp(join(tmpdir(), "redlock-quorum-demo-"));
  const workers: ChildProcess[] = [];
  try {
    const phases = await runPhases({ cluster, folder, workers });
    await Promise.all(workers.map(endWorker));
    return await report(folder, phases);
  } finally {
    for (const worker of workers) worker.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true });
    if (started) await cluster.end(dataIsNew);
  }
}

async function runPhases({ cluster, folder, workers }: Demo): Promise<Phase[]> {
  const nodes = nodesOf(defaultSite);
  const [, killed, , frozen] = nodes;
  if (killed === undefined || frozen === undefined) throw new Error("the demo needs five nodes");
  await writeFile(counterFile(folder), "0");
  const urls = nodes.map(({ port }) => `redis://127.0.0.1:${port}`);
  for (let index = 0; index < WORKER_COUNT; index++) {
    workers.push(fork(WORKER, [counterFile(folder), logFile(folder, index), ...urls]));
  }
  await Promise.all(workers.map(workerIsReady));
  console.log(`${WORKER_COUNT} workers, five nodes (${cluster.mode}), one counter.`);

  const progress = startProgress(workers);
  const { signal } = interrupted;
  const beganUs = nowUs();
  try {
    progress.say("all five nodes up");
    await sleep(HEALTHY_MS, undefined, { signal });

    const failedUs = nowUs();
    progress.say(`${killed.name} killed, ${frozen.name} frozen`);
    try {
      await Promise.all([cluster.kill(killed), cluster.freeze(frozen)]);
      await sleep(FAULTY_MS, undefined, { signal });
    } finally {
      await Promise.all([cluster.revive(killed), cluster.thaw(frozen)]);
    }

    const backUs = nowUs();
    progress.say("both are back");
    await sleep(HEALTHY_MS, undefined, { signal });
    return [
      { name: "five nodes up", fromUs: beganUs, toUs: failedUs },
      { name: "two of them failed", fromUs: failedUs, toUs: backUs },
      { name: "five nodes again", fromUs: backUs, toUs: nowUs() },
    ];
  } finally {
    progress.end();
  }
}

function counterFile(folder: string): string {
  return join(folder, "counter");
}

function logFile(folder: string, worker: number): string {
  return join(folder, `turns-${worker}`);
}

async function workerIsReady(worker: ChildProcess): Promise<void> {
  const signal = AbortSignal.any([
    interrupted.signal,
    AbortSignal.timeout(WORKER_START_TIMEOUT_MS),
  ]);
  const failed = once(worker, "exit", { signal }).then(([code]) => {
    throw new Error(`a worker ended with code ${String(code)} before its first turn`);
  });
  await Promise.race([once(worker, "message", { signal }), failed]);
}

async function endWorker(worker: ChildProcess): Promise<void> {
  const signal = AbortSignal.timeout(WORKER_END_TIMEOUT_MS);
  const exit = once(worker, "exit", { signal });
  worker.disconnect();
  const [code] = (await exit) as [number | null];
  if (code !== 0) throw new Error(`a worker ended with code ${String(code)}`);
}

/** In place on a terminal, else a line a second. */
function startProgress(workers: readonly ChildProcess[]) {
  const { isTTY } = process.stdout;
  const beganMs = performance.now();
  let what = "";
  let turns = 0;
  for (const worker of workers) worker.on("message", () => turns++);
  const print = () => {
    const seconds = ((performance.now() - beganMs) / 1_000).toFixed(1);
    const line = `${seconds.padStart(5)} s  ${String(turns).padStart(6)} increments  ${what}`;
    process.stdout.write(isTTY ? `\r\x1b[K${line}` : `${line}\n`);
  };
  const timer = setInterval(print, isTTY ? 100 : 1_000);
  return {
    say(text: string) {
      what = text;
    },
    end() {
      clearInterval(timer);
      if (isTTY) process.stdout.write("\r\x1b[K");
    },
  };
}

async function report(folder: string, phases: readonly Phase[]): Promise<boolean> {
  const logs = Array.from({ length: WORKER_COUNT }, (_, index) =>
    readFile(logFile(folder, index), "utf8"),
  );
  const lines = (await Promise.all(logs)).join("").trim().split("\n");
  const turns = lines.map((line) => JSON.parse(line) as Turn);
  const found = Number(await readFile(counterFile(folder), "utf8"));
  const overlaps = countOverlaps(turns);
  const errors = turns.flatMap(({ error }) => error ?? []);

  const [healthy, faulty, again] = phases.map((phase) => figuresOf(phase, turns));
  if (healthy === undefined || faulty === undefined || again === undefined) return false;
  const changePercent = 100 * (faulty.turnsPerSecond / healthy.turnsPerSecond - 1);
  const sign = changePercent < 0 ? "" : "+";
  console.log(`
Increments asked  ${turns.length}
Increments found  ${found}
Overlaps seen     ${overlaps}

${figuresTable([healthy, faulty, again])}

Cost of the two nodes' failure: ${sign}${changePercent.toFixed(0)} % turns/s`);
  if (errors[0] !== undefined)
    console.log(`${errors.length} turns failed, the first: ${errors[0]}`);
  return found === turns.length && overlaps === 0 && errors.length === 0;
}

function parseLocal(): boolean {
  try {
    const { values } = parseArgs({ options: { local: { type: "boolean", default: false } } });
    return values.local;
  } catch {
    console.error("Usage: npm run demo [-- --local]");
    process.exit(2);
  }
}

const local = parseLocal();
// Not `once`: npm and tsx may each pass the same Ctrl-C on, and a second one must not cut the
// tidying up short.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    interrupted.abort();
  });
}
// An engine that does not answer would hold the process open.
process.exit(await exitCode());

async function exitCode(): Promise<number> {
  try {
    return (await run(local)) ? 0 : 1;
  } catch (error) {
    const { aborted } = interrupted.signal;
    const why = error instanceof Error ? error.message : String(error);
    console.error(aborted ? "Interrupted." : why);
    return aborted ? 130 : 1;
  }
}
