// npm run simulate -- --schedules N --seconds S --jobs J --from SEED          hunts
// npm run simulate -- --seed N                                                replays, and shrinks what fails
// npm run simulate -- --exhaustive [--deliveries N] [--faults N] [--timers N]  tries every order
// npm run simulate -- --mutants [--most SEEDS]                                plants bugs

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { explore } from "./exhaustive/explore.js";
import { meanEvents, medianEvents, shrink, type Tally, total } from "./hunt.js";
import type { Job } from "./job.js";
import { library } from "../virtual-world/library.js";
import { catchMutant, MUTANTS } from "./mutants.js";
import { makePlan } from "./plan.js";
import { FAULT_MARK, run } from "./run.js";
import { turn } from "../virtual-world/turn.js";

const { values: options } = parseArgs({
  options: {
    schedules: { type: "string", default: "10000" },
    seconds: { type: "string", default: "900" },
    jobs: { type: "string", default: "2" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    exhaustive: { type: "boolean", default: false },
    deliveries: { type: "string" },
    faults: { type: "string" },
    timers: { type: "string" },
    mutants: { type: "boolean", default: false },
    most: { type: "string", default: "10000" },
  },
});

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
  const bundle = await bundled();
  const [firstSeed, schedules] = [Number(options.from), Number(options.schedules)];
  await Promise.all(
    Array.from({ length: jobs }, (_, job) =>
      inChild(
        bundle,
        { job, jobs, firstSeed, schedules, seconds: Number(options.seconds) },
        (tally) => {
          report(job, tally);
        },
      ),
    ),
  );
  return summarize([...tallies.values()], startMs);
}

/** One file, without the names that tsx keeps for every function that is made: a third faster. */
async function bundled(): Promise<string> {
  const outfile = fileURLToPath(
    new URL("../../node_modules/.cache/simulation/job.mjs", import.meta.url),
  );
  await build({
    entryPoints: [fileURLToPath(new URL("./job.ts", import.meta.url))],
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    outfile,
  });
  return outfile;
}

function inChild(bundle: string, job: Job, report: (tally: Tally) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(bundle, [JSON.stringify(job)], { execArgv: [] });
    child.on("message", (tally) => {
      report(tally as Tally);
    });
    child.on("exit", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`job ${job.job} of the hunt ended with ${code ?? "a signal"}`));
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
  if (options.exhaustive) return explore(library, options);
  if (options.seed !== undefined) return replay(Number(options.seed));
  return options.mutants ? plantBugs() : huntWithAll();
}

process.exitCode = (await main()) ? 0 : 1;
