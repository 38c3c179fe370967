import type { Library } from "../virtual-world/library.js";
import { makePlan, type Plan } from "./plan.js";
import { type Outcome, run } from "./run.js";
import { HANGS } from "./watchdog.js";

export interface Tally {
  schedules: number;
  /** How many schedules had how many events. */
  readonly events: Record<number, number>;
  readonly counts: Record<string, number>;
  /** The first seeds that broke something, and what. */
  readonly violations: { readonly seed: number; readonly what: string }[];
}

export function newTally(): Tally {
  return { schedules: 0, events: {}, counts: {}, violations: [] };
}

const MOST_VIOLATIONS = 20;

/** Runs the schedules of these seeds and adds them up. */
export function hunt(seeds: Iterable<number>, library: Library, tally: Tally): void {
  for (const seed of seeds) {
    const { violation, events, counts } = run(makePlan(seed), library);
    tally.schedules += 1;
    add(tally.events, events, 1);
    for (const [name, count] of counts) add(tally.counts, name, count);
    if (violation !== undefined && tally.violations.length < MOST_VIOLATIONS) {
      tally.violations.push({ seed, what: violation.message });
    }
  }
}

export function total(tallies: readonly Tally[]): Tally {
  const sum = newTally();
  for (const { schedules, events, counts, violations } of tallies) {
    sum.schedules += schedules;
    sum.violations.push(...violations);
    for (const [name, count] of Object.entries(events)) add(sum.events, Number(name), count);
    for (const [name, count] of Object.entries(counts)) add(sum.counts, name, count);
  }
  sum.violations.sort((a, b) => a.seed - b.seed);
  return sum;
}

function add<Name extends string | number>(
  counts: Record<Name, number>,
  name: Name,
  count: number,
): void {
  // A name that is not there yet.
  const before = (counts as Partial<Record<Name, number>>)[name] ?? 0;
  counts[name] = before + count;
}

export function meanEvents({ schedules, events }: Tally): number {
  const sum = Object.entries(events).reduce((so, [count, times]) => so + Number(count) * times, 0);
  return sum / schedules;
}

export function medianEvents({ schedules, events }: Tally): number {
  let seen = 0;
  // Whole numbers as keys come in their order.
  for (const [count, times] of Object.entries(events)) {
    seen += times;
    if (2 * seen >= schedules) return Number(count);
  }
  return 0;
}

const MOST_TRIES = 2000;

/** The same plan without what the violation does not need; it breaks the same rule. */
export function shrink(plan: Plan, library: Library): { plan: Plan; outcome: Outcome } {
  let smallest = plan;
  let outcome = run(plan, library, true);
  const rule = outcome.violation?.rule;
  let triesLeft = rule === HANGS ? 0 : MOST_TRIES;
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const candidate of smallerPlans(smallest)) {
      if (triesLeft-- === 0) return { plan: smallest, outcome };
      const tried = run(candidate, library, true);
      if (tried.violation?.rule !== rule || tried.trace.length > outcome.trace.length) continue;
      smallest = candidate;
      outcome = tried;
      isSmaller = true;
      break;
    }
  }
  return { plan: smallest, outcome };
}

function* smallerPlans(plan: Plan): Generator<Plan> {
  for (const fault of plan.faults) {
    yield { ...plan, faults: plan.faults.filter((other) => other !== fault) };
  }
  for (const [index, client] of plan.clients.entries()) {
    for (const [at, program] of client.programs.entries()) {
      for (const step of program) {
        const programs = client.programs.with(
          at,
          program.filter((other) => other !== step),
        );
        yield { ...plan, clients: plan.clients.with(index, { ...client, programs }) };
      }
    }
  }
  const { weather } = plan;
  if (weather.straggling > 0) yield { ...plan, weather: { ...weather, straggling: 0 } };
}
