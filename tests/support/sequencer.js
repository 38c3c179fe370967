import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import Sequencer from "@jest/test-sequencer";

const folder = join(import.meta.dirname, "..");

/** What takes more than 15 s on two cores, the longest first: one that began last would run by itself at the end. */
const LONG = [
  "project/readme",
  "cli/run",
  "simulation/simulation",
  "redis/handles",
  "cli/loss",
  "redis/node-redis",
  "redis/closing",
  "redis/error-reasons",
  "redis/lead",
  "redis/operations",
  "simulation/exhaustive/exhaustive",
  "simulation/line",
  "redis/restart-guard",
  "cli/top",
  "redis/memory",
  "redis/faults",
  "redis/queue-processes",
  "redis/health",
  "redis/drain",
  "cli/calls",
  "cli/completion",
  "redis/queue-degraded",
  "project/allocations",
].map((name) => `${name}.test.ts`);

for (const name of LONG) {
  if (!existsSync(join(folder, name))) throw new Error(`sequencer.js: tests/${name} is gone`);
}

/** Jest knows how long a file takes only once it ran here, and takes the largest first until then. */
export default class LongestFirst extends Sequencer {
  sort(tests) {
    const rank = ({ path }) => {
      const index = LONG.indexOf(relative(folder, path));
      return index === -1 ? LONG.length : index;
    };
    const sorted = super.sort(tests);
    const isKnown = sorted.some(({ duration }) => duration !== undefined);
    return isKnown ? sorted : sorted.toSorted((one, other) => rank(one) - rank(other));
  }
}
