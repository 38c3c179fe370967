// npm run simulate -- --schedules N --seconds S --jobs J --from SEED   hunts
// npm run simulate -- --seed N                                         replays, and shrinks what fails
// npm run simulate -- --mutants [--most SEEDS]                         plants bugs

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { hunt, newTally, shrink, type Tally } from "./hunt.js";
import { library } from "./library.js";
import { catchMutant, MUTANTS } from "./mutants.js";
import { makePlan } from "./plan.js";
import { run } from "./run.js";

const { values: options } = parseArgs({
  options: {
    schedules: { type: "string", default: "10000" },
    seconds: { type: "string", default: "900" },
    jobs: { type: "string", default: "2" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    mutants: { type: "boolean", default: false },
    most: { type: "string", default: "5000" },
  },
});

const CHUNK = 200;
// Nobody reads the stacks of the errors that a schedule is full of, and they cost half its time.
Error.stackTraceLimit = 0;

/** A turn of its own, outside the microtasks, which a schedule must be able to run to their end. */
function turn<T>(body: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(body());
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  });
}

/** Every `jobs`-th chunk of seeds, until the seeds or the time are used up. */
async function work(job: number, jobs: number, report: (tally: Tally) => void): Promise<Tally> {
  const tally = newTally();
  const first = Number(options.from);
  const last = first + Number(options.schedules);
  const endMs = performance.now() + 1000 * Number(options.seconds);
  for (let from = first + job * CHUNK; from < last; from += jobs * CHUNK) {
    if (performance.now() > endMs) break;
    const seeds = Array.from({ length: Math.min(CHUNK, last - from) }, (_, index) => from + index);
    await turn(() => hunt(seeds, library, tally));
    report(tally);
  }
  return tally;
}

async function huntWithAll(): Promise<boolean> {
  const jobs = Number(options.jobs);
  const startMs = performance.now();
  const tallies = new Map<number, Tally>();
  let shownMs = startMs;
  const report = (job: number, tally: Tally): void => {
    tallies.set(job, tally);
    if (performance.now() - shownMs < 5000) return;
    shownMs = performance.now();
    const done = [...tallies.values()].reduce((sum, { schedules }) => sum + schedules, 0);
    console.log(`${done} schedules, ${rate(done, startMs)} a second`);
  };
  await Promise.all(
    Array.from({ length: jobs }, (_, job) =>
      jobs === 1
        ? work(0, 1, (tally) => {
            report(0, tally);
          })
        : inChild(job, (tally) => {
            report(job, tally);
          }),
    ),
  );
  return summarize([...tallies.values()], startMs);
}

function inChild(job: number, report: (tally: Tally) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {
      env: { ...process.env, SIMULATION_JOB: String(job) },
    });
    child.on("message", (tally) => {
      report(tally as Tally);
    });
    child.on("exit", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`job ${job} of the hunt ended with ${code ?? "a signal"}`));
    });
  });
}

function rate(schedules: number, startMs: number): string {
  return ((1000 * schedules) / (performance.now() - startMs)).toFixed(0);
}

function summarize(tallies: readonly Tally[], startMs: number): boolean {
  const total = newTally();
  for (const { schedules, events, counts, violations } of tallies) {
    total.schedules += schedules;
    total.events += events;
    total.violations.push(...violations);
    for (const [name, count] of Object.entries(counts)) {
      total.counts[name] = (total.counts[name] ?? 0) + count;
    }
  }
  console.log(
    `${total.schedules} schedules, ${rate(total.schedules, startMs)} a second, ` +
      `${(total.events / total.schedules).toFixed(0)} events each in the mean`,
  );
  for (const [name, count] of Object.entries(total.counts).sort(([, a], [, b]) => b - a)) {
    console.log(`${String(count).padStart(12)}  ${name}`);
  }
  console.log(`${total.violations.length} violations`);
  for (const { seed, what } of total.violations) console.log(`seed ${seed}: ${what}`);
  return total.violations.length === 0;
}

async function replay(seed: number): Promise<boolean> {
  Error.stackTraceLimit = 10;
  const plan = makePlan(seed);
  const whole = await turn(() => run(plan, library, true));
  if (whole.violation === undefined) {
    console.log(whole.trace.join("\n"));
    console.log(`seed ${seed}: no violation in ${whole.events} events`);
    return true;
  }
  const { plan: smallest, outcome } = await turn(() => shrink(plan, library));
  console.log(JSON.stringify(smallest, undefined, 2));
  console.log(outcome.trace.join("\n"));
  console.log(
    `seed ${seed}: ${outcome.violation?.message ?? ""}\n` +
      `The trace is shrunk, from ${whole.trace.length} lines to ${outcome.trace.length}.`,
  );
  return false;
}

async function plantBugs(): Promise<boolean> {
  const seeds: number[] = [];
  for (const mutant of MUTANTS) {
    const caught = await catchMutant(mutant, Number(options.most));
    if (caught.seeds !== undefined) seeds.push(caught.seeds);
    console.log(
      `${caught.name.padEnd(52)} ${String(caught.seeds ?? "SURVIVED").padStart(8)} seeds  ` +
        `${String(caught.traceLines).padStart(5)} lines  ${caught.rule}`,
    );
  }
  const median = seeds.sort((a, b) => a - b)[Math.floor(seeds.length / 2)];
  console.log(`${seeds.length} of ${MUTANTS.length} caught, in the median by seed ${median ?? 0}`);
  return seeds.length === MUTANTS.length;
}

async function main(): Promise<boolean> {
  const job = process.env["SIMULATION_JOB"];
  if (job !== undefined) {
    await work(Number(job), Number(options.jobs), (tally) => process.send?.(tally));
    return true;
  }
  if (options.seed !== undefined) return replay(Number(options.seed));
  return options.mutants ? plantBugs() : huntWithAll();
}

process.exitCode = (await main()) ? 0 : 1;
if (process.connected) process.disconnect();
