// tsx tests/simulation/exhaustive/main.ts [--deliveries N] [--faults N] [--timers N]
// searches each pair of programs within its own bounds, or within those given.

import { parseArgs } from "node:util";
import { library } from "../library.js";
import { explore } from "./explore.js";

const { values: options } = parseArgs({
  options: {
    deliveries: { type: "string" },
    faults: { type: "string" },
    timers: { type: "string" },
  },
});

process.exitCode = (await explore(library, options)) ? 0 : 1;
