import type { Library } from "./library.js";
import { makePlan, type Plan } from "./plan.js";
import { type Outcome, run } from "./run.js";

export interface Tally {
  schedules: number;
  events: number;
  readonly counts: Record<string, number>;
  /** The first seeds that broke something, and what. */
  readonly violations: { readonly seed: number; readonly what: string }[];
}

export function newTally(): Tally {
  return { schedules: 0, events: 0, counts: {}, violations: [] };
}

const MOST_VIOLATIONS = 20;

/** Runs the schedules of these seeds and adds them up. */
export function hunt(seeds: Iterable<number>, library: Library, tally = newTally()): Tally {
  for (const seed of seeds) {
    const { violation, events, counts } = run(makePlan(seed), library);
    tally.schedules += 1;
    tally.events += events;
    for (const [name, count] of counts) tally.counts[name] = (tally.counts[name] ?? 0) + count;
    if (violation !== undefined && tally.violations.length < MOST_VIOLATIONS) {
      tally.violations.push({ seed, what: violation.message });
    }
  }
  return tally;
}

/** The same plan without what the violation does not need; it breaks the same rule. */
export function shrink(plan: Plan, library: Library): { plan: Plan; outcome: Outcome } {
  let smallest = plan;
  let outcome = run(plan, library, true);
  const rule = outcome.violation?.rule;
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false;
    for (const candidate of smallerPlans(smallest)) {
      const tried = run(candidate, library, true);
      if (tried.violation?.rule !== rule) continue;
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
}
