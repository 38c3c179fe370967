// npm run simulate -- --schedules N --seconds S --jobs J --from SEED   hunts
// npm run simulate -- --seed N                                         replays, and shrinks what fails
// npm run simulate -- --mutants [--most SEEDS]                         plants bugs

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { hunt, meanEvents, medianEvents, newTally, shrink, type Tally, total } from "./hunt.js";
import { library } from "./library.js";
import { catchMutant, MUTANTS } from "./mutants.js";
import { makePlan } from "./plan.js";
import { FAULT_MARK, run } from "./run.js";

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
    await turn(() => {
      hunt(seeds, library, tally);
    });
    report(tally);
  }
  return tally;
}

async function huntWithAll(): Promise<boolean> {
  const jobs = Number(options.jobs);
  const startMs = performance.now();
  const tallies = new Map<number, Tally>();
  let shownMs = startMs;
  const known = new Set<number>();
  const report = (job: number, tally: Tally): void => {
    tallies.set(job, tally);
    for (const { seed, what } of tally.violations) {
      if (!known.has(seed)) console.log(`seed ${seed}: ${what}`);
      known.add(seed);
    }
    if (performance.now() - shownMs < 5000) return;
    shownMs = performance.now();
    const { schedules, violations } = total([...tallies.values()]);
    console.log(
      `${schedules} schedules, ${rate(schedules, startMs)} a second, ${violations.length} violations`,
    );
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

async function summarize(tallies: readonly Tally[], startMs: number): Promise<boolean> {
  const sum = total(tallies);
  console.log(
    `${sum.schedules} schedules, ${rate(sum.schedules, startMs)} a second; ` +
      `events in each: ${meanEvents(sum).toFixed(0)} in the mean, ${medianEvents(sum)} in the median`,
  );
  const counts = Object.entries(sum.counts).sort(([, a], [, b]) => b - a);
  const isFault = ([name]: [string, number]): boolean => name.startsWith(FAULT_MARK);
  for (const [name, count] of [
    ...counts.filter((each) => !isFault(each)),
    ...counts.filter(isFault),
  ]) {
    console.log(`${String(count).padStart(12)}  ${name}`);
  }
  console.log(`${sum.violations.length} violations`);
  const [first] = sum.violations;
  if (first === undefined) return true;
  return replay(first.seed);
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
  console.log(JSON.stringify(smallest));
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
