// `npm run demo`: four processes add to one counter under the lock while two of five nodes fail.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { up } from "./cluster.js";
import {
  costInWords,
  figuresOf,
  figuresTable,
  nowUs,
  type Phase,
  type Turn,
  verdictOf,
} from "./demo-report.js";
import { type Cluster, defaultSite, nodesOf } from "./nodes.js";
import { coloured, npmScript } from "../tests/support/terminal.js";

const WORKER = join(import.meta.dirname, "demo-worker.ts");
const WORKER_COUNT = 4;
const WORKER_START_TIMEOUT_MS = 60_000;
const WORKER_END_TIMEOUT_MS = 5_000;
const HEALTHY_MS = 3_000;
const FAULTY_MS = 5_000;
const PROGRESS_INTERVAL_MS = 100;

const ABOUT = `Four processes add 1 to the same counter, again and again, under one lock on
five Redis servers. Meanwhile one server is killed and another is frozen.
The run takes about 15 s. It fails if an update is lost.
`;

const interrupted = new AbortController();

interface Demo {
  readonly cluster: Cluster;
  readonly folder: string;
  readonly workers: ChildProcess[];
}

/** True if no increment was lost and no two workers were in the critical section at once. */
async function run(local: boolean): Promise<boolean> {
  console.log(ABOUT);
  const workers: ChildProcess[] = [];
  const progress = startProgress(workers);
  let folder: string | undefined;
  let running: Awaited<ReturnType<typeof up>> | undefined;
  try {
    progress.doing("starting five Redis servers");
    running = await up(defaultSite, local);
    const { cluster, started } = running;
    progress.event(`${started ? "started" : "reusing"} five Redis servers (${kindOf(cluster)})`);
    folder = await mkdtemp(join(tmpdir(), "redlock-quorum-demo-"));
    const phases = await runPhases({ cluster, folder, workers }, progress);
    progress.event("the workers stop");
    await Promise.all(workers.map(endWorker));
    progress.end();
    return await report(folder, phases);
  } finally {
    progress.end();
    for (const worker of workers) worker.kill("SIGKILL");
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
    if (running?.started === true) await running.cluster.end(running.dataIsNew);
  }
}

function kindOf({ mode }: Cluster): string {
  return mode === "docker" ? "Docker containers" : "plain processes";
}

async function runPhases({ cluster, folder, workers }: Demo, progress: Progress): Promise<Phase[]> {
  const nodes = nodesOf(defaultSite);
  const [, killed, , frozen] = nodes;
  if (killed === undefined || frozen === undefined) throw new Error("the demo needs five nodes");
  await writeFile(counterFile(folder), "0");
  const urls = nodes.map(({ port }) => `redis://127.0.0.1:${port}`);
  progress.doing("starting four workers");
  for (let index = 0; index < WORKER_COUNT; index++) {
    workers.push(fork(WORKER, [counterFile(folder), logFile(folder, index), ...urls]));
  }
  progress.count();
  await Promise.all(workers.map(workerIsReady));

  const { signal } = interrupted;
  const beganUs = nowUs();
  progress.event("four workers add; all five nodes are up");
  await sleep(HEALTHY_MS, undefined, { signal });

  const failedUs = nowUs();
  progress.event(`${killed.name} is killed, ${frozen.name} is frozen`, "yellow");
  try {
    await Promise.all([cluster.kill(killed), cluster.freeze(frozen)]);
    await sleep(FAULTY_MS, undefined, { signal });
  } finally {
    await Promise.all([cluster.revive(killed), cluster.thaw(frozen)]);
  }

  const backUs = nowUs();
  progress.event(`${killed.name} is restarted, ${frozen.name} is resumed`);
  await sleep(HEALTHY_MS, undefined, { signal });
  return [
    { name: "five nodes up", fromUs: beganUs, toUs: failedUs },
    { name: "two of five down", fromUs: failedUs, toUs: backUs },
    { name: "five nodes up again", fromUs: backUs, toUs: nowUs() },
  ];
}

function counterFile(folder: string): string {
  return join(folder, "counter");
}

function logFile(folder: string, worker: number): string {
  return join(folder, `turns-${worker}`);
}

async function workerIsReady(worker: ChildProcess): Promise<void> {
  const timeout = AbortSignal.timeout(WORKER_START_TIMEOUT_MS);
  const signal = AbortSignal.any([interrupted.signal, timeout]);
  const failed = once(worker, "exit", { signal }).then(([code]) => {
    throw new Error(`A worker ended with code ${String(code)} before its first turn.`);
  });
  try {
    await Promise.race([once(worker, "message", { signal }), failed]);
  } catch (error) {
    if (!timeout.aborted) throw error;
    const seconds = WORKER_START_TIMEOUT_MS / 1_000;
    throw new Error(
      `A worker did not take its first turn in ${seconds} s. Try again when the machine is less busy.`,
      { cause: error },
    );
  }
}

async function endWorker(worker: ChildProcess): Promise<void> {
  const signal = AbortSignal.timeout(WORKER_END_TIMEOUT_MS);
  const exit = once(worker, "exit", { signal });
  worker.disconnect();
  const [code] = (await exit) as [number | null];
  if (code !== 0) throw new Error(`A worker ended with code ${String(code)}.`);
}

type Progress = ReturnType<typeof startProgress>;

/** One line an event, which stays. On a terminal, the line below it counts the increments. */
function startProgress(workers: readonly ChildProcess[]) {
  const { stdout } = process;
  const beganMs = performance.now();
  let turns = 0;
  let current = "";
  const lineOf = (what: string): string => {
    const seconds = ((performance.now() - beganMs) / 1_000).toFixed(1);
    return `${seconds.padStart(6)} s  ${String(turns).padStart(6)} increments  ${what}`;
  };
  const clear = (): void => {
    if (stdout.isTTY) stdout.write("\r\x1b[K");
  };
  const show = (): void => {
    clear();
    stdout.write(coloured("dim", lineOf(current)));
  };
  const timer = stdout.isTTY ? setInterval(show, PROGRESS_INTERVAL_MS) : undefined;
  let hasEnded = false;
  return {
    /** Counts the turns of the workers, which are there by now. */
    count(): void {
      for (const worker of workers) worker.on("message", () => turns++);
    },
    doing(what: string): void {
      current = what;
      if (stdout.isTTY) show();
      else console.log(lineOf(what));
    },
    event(what: string, colour?: "yellow"): void {
      clear();
      const line = lineOf(what);
      console.log(colour === undefined ? line : coloured(colour, line));
      current = "…";
    },
    end(): void {
      if (hasEnded) return;
      hasEnded = true;
      clearInterval(timer);
      clear();
    },
  };
}

/** Prints the verdict, the figures and the verdict again; true if the run passed. */
async function report(folder: string, phases: readonly Phase[]): Promise<boolean> {
  const logs = Array.from({ length: WORKER_COUNT }, (_, index) =>
    readFile(logFile(folder, index), "utf8"),
  );
  const lines = (await Promise.all(logs)).join("").trim().split("\n");
  const turns = lines.map((line) => JSON.parse(line) as Turn);
  const found = Number(await readFile(counterFile(folder), "utf8"));
  const [healthy, faulty, again] = phases.map((phase) => figuresOf(phase, turns));
  if (healthy === undefined || faulty === undefined || again === undefined) return false;

  const { passed, short, reasons } = verdictOf(turns, found);
  const colour = passed ? "green" : "red";
  console.log(`
${coloured(colour, `${short}.`)}
${reasons.map((reason) => `  ${reason}`).join("\n")}

${figuresTable([healthy, faulty, again])}

${costInWords(healthy, faulty)}
A turn: wait for the lock, read the counter, 2 ms of work, write it, release.

${coloured(colour, passed ? `Passed: ${short.toLowerCase()}.` : `FAILED: ${short}.`)}`);
  return passed;
}

const { local = false } = npmScript("demo", ABOUT.trimEnd())
  .option("--local", "run plain redis-server or valkey-server processes, without Docker")
  .addHelpText("after", "\nExit status: 0 if no update was lost, 1 if not, 2 for wrong arguments.")
  .parse()
  .opts<{ local?: boolean }>();
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
    console.error(aborted ? "Interrupted before the end: no verdict." : why);
    return aborted ? 130 : 1;
  }
}
