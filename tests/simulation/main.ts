// `npm run simulate`: the library's real code on virtual time, under random or all orders of events.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { explore } from "./exhaustive/explore.js";
import { meanEvents, medianEvents, shrink, type Tally, total } from "./hunt.js";
import type { Job } from "./job.js";
import { library } from "../virtual-world/library.js";
import { catchMutant, MUTANTS } from "./mutants.js";
import { makePlan } from "./plan.js";
import { FAULT_MARK, run } from "./run.js";
import { coloured, npmScript, positiveNumber, wholeNumber } from "../support/terminal.js";
import { turn } from "../virtual-world/turn.js";

const ABOUT = `Runs the library's real code on virtual time, with simulated nodes, links and
faults, and looks for violations such as two holders of one lock.`;
const WAYS = `
Four ways to run it:
  npm run simulate -- --schedules 10000  try random schedules
  npm run simulate -- --seed 7           run one schedule again, with its trace;
                                         shorten the trace if it fails
  npm run simulate -- --exhaustive       try all orders of events in small cases
  npm run simulate -- --mutants          plant bugs and show that it finds them

Exit status: 0 if there was no violation (--mutants: if every bug was found),
1 if not, 2 for wrong arguments.`;

interface Options {
  readonly schedules: number;
  readonly seconds: number;
  readonly jobs: number;
  readonly from: number;
  readonly seed?: number;
  readonly exhaustive: boolean;
  readonly deliveries?: number;
  readonly faults?: number;
  readonly timers?: number;
  readonly mutants: boolean;
  readonly most: number;
}

const options = npmScript("simulate", ABOUT)
  .option("--schedules <N>", "how many random schedules to try", wholeNumber(1), 10_000)
  .option("--seconds <S>", "end after this time at the latest", positiveNumber, 900)
  .option("--jobs <J>", "processes to use", wholeNumber(1), 2)
  .option("--from <seed>", "the first seed", wholeNumber(), 1)
  .option("--seed <N>", "run only the schedule of this seed", wholeNumber())
  .option("--exhaustive", "try every order of events", false)
  .option("--deliveries <N>", "with --exhaustive: at most N deliveries", wholeNumber(0))
  .option("--faults <N>", "with --exhaustive: at most N faults", wholeNumber(0))
  .option("--timers <N>", "with --exhaustive: at most N timers", wholeNumber(0))
  .option("--mutants", "plant bugs", false)
  .option("--most <seeds>", "with --mutants: seeds to try for a bug", wholeNumber(1), 10_000)
  .addHelpText("after", WAYS)
  .parse()
  .opts<Options>();

async function huntWithAll(): Promise<boolean> {
  const { jobs, from: firstSeed, schedules, seconds } = options;
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
    const sum = total([...tallies.values()]);
    console.log(
      `${sum.schedules} schedules, ${rate(sum.schedules, startMs)} a second, ` +
        `${sum.violations.length} violations`,
    );
  };
  const bundle = await bundled();
  await Promise.all(
    Array.from({ length: jobs }, (_, job) =>
      inChild(bundle, { job, jobs, firstSeed, schedules, seconds }, (tally) => {
        report(job, tally);
      }),
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
  const [first] = sum.violations;
  if (first === undefined) return verdict(true, `No violation in ${sum.schedules} schedules.`);
  await replay(first.seed);
  return verdict(
    false,
    `VIOLATIONS in ${sum.violations.length} of ${sum.schedules} schedules. ` +
      `Run the first again: npm run simulate -- --seed ${first.seed}`,
  );
}

/** Prints the last line of a run, and returns whether the run was good. */
function verdict(isGood: boolean, text: string): boolean {
  console.log(coloured(isGood ? "green" : "red", text));
  return isGood;
}

/** How much of where an error came from the shortened trace shows. */
const STACK_FRAMES = 10;

async function replay(seed: number): Promise<boolean> {
  const plan = makePlan(seed);
  const whole = await turn(() => run(plan, library, true));
  if (whole.violation === undefined) {
    console.log(whole.trace.join("\n"));
    return verdict(true, `No violation in the ${whole.events} events of seed ${seed}.`);
  }
  const { plan: smallest, outcome } = await turn(() => shrink(plan, library), STACK_FRAMES);
  console.log(JSON.stringify(smallest));
  console.log(outcome.trace.join("\n"));
  console.log(
    `The trace is shortened from ${whole.trace.length} lines to ${outcome.trace.length}.`,
  );
  return verdict(false, `VIOLATION with seed ${seed}: ${outcome.violation?.message ?? ""}`);
}

async function plantBugs(): Promise<boolean> {
  const seeds: number[] = [];
  for (const mutant of MUTANTS) {
    const caught = await catchMutant(mutant, options.most);
    if (caught.seeds !== undefined) seeds.push(caught.seeds);
    console.log(
      `${caught.name.padEnd(52)} ${String(caught.seeds ?? "SURVIVED").padStart(8)} seeds  ` +
        `${String(caught.traceLines).padStart(5)} lines  ${caught.rule}`,
    );
  }
  const median = seeds.sort((a, b) => a - b)[Math.floor(seeds.length / 2)];
  const caughtInWords = `${seeds.length} of ${MUTANTS.length} planted bugs caught`;
  return verdict(
    seeds.length === MUTANTS.length,
    `${caughtInWords}, half of them within ${median ?? 0} seeds.`,
  );
}

async function main(): Promise<boolean> {
  if (options.exhaustive) {
    const isClean = await explore(library, options);
    return verdict(
      isClean,
      isClean ? "No violation in any order that was tried." : "VIOLATIONS: see above.",
    );
  }
  if (options.seed !== undefined) return replay(options.seed);
  return options.mutants ? plantBugs() : huntWithAll();
}

process.exitCode = (await main()) ? 0 : 1;
