import type { Library } from "../../virtual-world/library.js";
import { turn } from "../../virtual-world/turn.js";
import { PAIRS } from "./pairs.js";
import { searchReaders } from "./readers.js";
import { type Found, search } from "./search.js";
import type { Bounds } from "./system.js";

/** Readers and writers of one node, how many commands, and whether the node loses keys. */
const READERS = [
  [["reader", "writer", "reader"], 9, false],
  [["reader", "reader", "writer"], 8, true],
  [["reader", "reader", "writer", "reader"], 8, false],
  [["writer", "reader", "writer", "reader"], 8, false],
] as const;

/** Bounds in place of the pairs' own. */
type Given = { readonly [name in "deliveries" | "faults" | "timers"]?: number | undefined };

/** Searches every pair of programs and says what it did; false where something was violated. */
export function explore(library: Library, given: Given = {}): Promise<boolean> {
  return turn(() => {
    let isClean = true;
    for (const pair of PAIRS) {
      const bounds: Bounds = {
        deliveries: given.deliveries ?? pair.bounds.deliveries,
        faults: given.faults ?? pair.bounds.faults,
        timers: given.timers ?? pair.bounds.timers,
      };
      const found = search(pair.programs, library, bounds);
      console.log(`${pair.name}\n${inWords(bounds, found)}`);
      isClean &&= found.violation === undefined;
    }
    for (const [kinds, depth, withLosses] of READERS) {
      const { states, transitions, violation } = searchReaders(kinds, depth, library, withLosses);
      console.log(
        `one node, ${kinds.join(", ")}${withLosses ? ", and losses" : ""}\n  up to ${depth} commands: ` +
          `${transitions} steps, ${states} states\n  ` +
          (violation === undefined
            ? "complete: no violation"
            : `VIOLATION ${violation.error.message}\n  after ${violation.steps.join(", ")}`),
      );
      isClean &&= violation === undefined;
    }
    return isClean;
  });
}

function inWords({ deliveries, faults, timers }: Bounds, found: Found): string {
  const { violation, executions, states, observables, mostDeliveries, mostSteps, seconds } = found;
  const within = `up to ${deliveries} deliveries, ${faults} faults and ${timers} timers`;
  const end =
    violation === undefined
      ? "complete: no violation"
      : `VIOLATION ${violation.error.message}\n  after ${violation.steps.join(", ")}`;
  return (
    `  ${within}: ${executions} executions, ${states.size} states, ${observables.size} of them ` +
    `observably distinct, at most ${mostDeliveries} deliveries and ${mostSteps} steps deep, ` +
    `${seconds.toFixed(1)} s\n  ${end}`
  );
}
