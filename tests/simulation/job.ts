// One process of a hunt: node job.mjs '{"job":0,"jobs":2,…}'

import { hunt, newTally } from "./hunt.js";
import { library } from "../virtual-world/library.js";
import { turn } from "../virtual-world/turn.js";

export interface Job {
  readonly job: number;
  readonly jobs: number;
  readonly firstSeed: number;
  readonly schedules: number;
  /** After this long it stops where it is. */
  readonly seconds: number;
}

const CHUNK = 200;

/** Every `jobs`-th chunk of seeds, until the seeds or the time are used up. */
async function work({ job, jobs, firstSeed, schedules, seconds }: Job): Promise<void> {
  const tally = newTally();
  const last = firstSeed + schedules;
  const endMs = performance.now() + 1000 * seconds;
  for (let from = firstSeed + job * CHUNK; from < last; from += jobs * CHUNK) {
    if (performance.now() > endMs) break;
    const seeds = Array.from({ length: Math.min(CHUNK, last - from) }, (_, index) => from + index);
    await turn(() => {
      hunt(seeds, library, tally);
    });
    process.send?.(tally);
  }
}

await work(JSON.parse(process.argv[2] ?? "") as Job);
process.disconnect();
