import { createHash } from "node:crypto";
import type { Library } from "../../virtual-world/library.js";
import type { Programs } from "./client.js";
import { type Bounds, type Choice, System } from "./system.js";

export interface Found {
  /** How often the programs were run from the start. */
  readonly executions: number;
  /** States that have a future of their own. */
  readonly states: ReadonlySet<string>;
  readonly observables: ReadonlySet<string>;
  /** The most deliveries, and the most steps of any kind, of one execution within the bounds. */
  readonly mostDeliveries: number;
  readonly mostSteps: number;
  /** The first that was met ends the search. */
  readonly violation: { readonly error: Error; readonly steps: readonly string[] } | undefined;
  /** Everything within the bounds was searched. */
  readonly complete: boolean;
  readonly seconds: number;
}

/** A state on the path, and what is still to be tried from it. */
interface Fork {
  readonly untried: Choice[];
  /** What need not be tried: it was, before something that it does not touch. */
  readonly asleep: Map<string, Choice>;
  taken: Choice | undefined;
}

/**
 * Tries every order of everything that may happen within the bounds, by running the programs again from
 * the start. Of the orders that differ only in what touches nobody in common, one is run to its end.
 *
 * Source: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996, figure
 * 5.2: sleep sets with states that were met before, and with them what was asleep there.
 *
 * @param reduced false runs all orders, to hold the reduction against
 */
export function search(
  programs: Programs,
  library: Library,
  bounds: Bounds,
  { reduced = true, mostSeconds = Infinity } = {},
): Found {
  const startMs = performance.now();
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown): void => {
    rejections.push(reason);
  };
  process.on("unhandledRejection", onRejection);
  const asleepAt = new Map<string, ReadonlySet<string>>();
  const states = new Set<string>();
  const observables = new Set<string>();
  let executions = 1;
  let mostDeliveries = 0;
  let mostSteps = 0;

  /** Looks at a state that was just reached; undefined where nothing is to be tried from it. */
  const arrive = (system: System, asleep: Map<string, Choice>): Fork | undefined => {
    if (rejections.length > 0) throw new Error(`unhandled rejection: ${String(rejections[0])}`);
    const { text, labels } = system.state;
    const state = digest(text);
    const isNew = !states.has(state);
    if (isNew) {
      states.add(state);
      observables.add(digest(system.observable));
      mostDeliveries = Math.max(mostDeliveries, system.deliveries);
    }
    const choices = system.choices(bounds);
    if (choices.length === 0) {
      if (isNew || !reduced) system.finish();
      return undefined;
    }
    if (!reduced) return { untried: choices, asleep, taken: undefined };
    const before = asleepAt.get(state);
    const untried = choices.filter(
      (choice) => !asleep.has(choice.name) && (before?.has(nameIn(labels, choice)) ?? true),
    );
    const kept = [...asleep].filter(([, choice]) => before?.has(nameIn(labels, choice)) ?? true);
    asleepAt.set(state, new Set(kept.map(([, choice]) => nameIn(labels, choice))));
    return { untried, asleep: new Map(kept), taken: undefined };
  };

  const path: Fork[] = [];
  let violation: Found["violation"];
  let complete = true;
  try {
    let system = new System(programs, library);
    let fork = arrive(system, new Map());
    for (;;) {
      if (fork !== undefined) path.push(fork);
      while (path.at(-1)?.untried.length === 0) path.pop();
      const last = path.at(-1);
      const choice = last?.untried.shift();
      if (last === undefined || choice === undefined) break;
      if (performance.now() - startMs > 1000 * mostSeconds) {
        complete = false;
        break;
      }
      const goesOn = fork === last;
      last.taken = choice;
      mostSteps = Math.max(mostSteps, path.length);
      if (!goesOn) {
        system = new System(programs, library);
        executions += 1;
        for (const { taken } of path.slice(0, -1)) if (taken !== undefined) system.apply(taken);
      }
      system.apply(choice);
      const asleep = new Map<string, Choice>();
      if (reduced) {
        for (const [name, other] of last.asleep) {
          if ((other.touches & choice.touches) === 0) asleep.set(name, other);
        }
        last.asleep.set(choice.name, choice);
      }
      fork = arrive(system, asleep);
    }
  } catch (error) {
    complete = false;
    violation = {
      error: error instanceof Error ? error : new Error(String(error)),
      steps: path.flatMap(({ taken }) => (taken === undefined ? [] : [taken.name])),
    };
  } finally {
    process.off("unhandledRejection", onRejection);
  }
  return {
    executions,
    states,
    observables,
    mostDeliveries,
    mostSteps,
    violation,
    complete,
    seconds: (performance.now() - startMs) / 1000,
  };
}

/** A choice by the numbers that its nodes have in the state's text. */
function nameIn(labels: readonly number[], { kind, client, node }: Choice): string {
  return `${kind} ${client} ${labels[node] ?? ""}`;
}

function digest(text: string): string {
  return createHash("sha1").update(text).digest("base64");
}
