import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import Sequencer from "@jest/test-sequencer";

const folder = join(import.meta.dirname, "..");

/** What takes more than 10 s on two cores, the longest first: one that began last would run by itself at the end. */
const LONG = [
  "project/readme",
  "cli/loss",
  "cli/run",
  "simulation/simulation",
  "redis/error-reasons",
  "redis/handles",
  "redis/node-redis",
  "simulation/line",
  "redis/closing",
  "redis/operations",
  "redis/lead",
  "simulation/exhaustive/readers",
  "cli/completion",
  "cli/calls",
  "redis/restart-guard",
  "redis/memory",
  "redis/health",
  "redis/queue-degraded",
  "redis/drain",
  "redis/faults",
  "cli/reports",
  "simulation/exhaustive/exhaustive",
  "cli/top",
  "redis/queue-processes",
  "project/allocations",
  "project/cluster-script",
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
