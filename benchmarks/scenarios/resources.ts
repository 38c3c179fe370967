import type { Locker } from "../locker.js";
import { interleave, spread } from "../measure.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { type Latencies, medians, type Step, useAlone, warmUp } from "../workloads.js";

const RESOURCES = [1, 10, 100];
const LOCKS_PER_ROUND = 20;

export const resources: Scenario = {
  name: "resources",
  title: "Several resources in one lock",
  about:
    `One user acquires, extends and releases locks of 1, 10 and 100 resources, ${LOCKS_PER_ROUND} of each a ` +
    "round. Only libraries that can lock several resources together take part.",
  rounds: { usual: 20, short: 2 },
  run,
};

async function run({ libraries, servers, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const able = libraries.filter(({ locksSeveral }) => locksSeveral);
  const lockers: Locker[] = [];
  const runs = new Map<string, () => Promise<Latencies>>();
  try {
    for (const { name, open } of able) {
      const locker = await open(urls, "none");
      lockers.push(locker);
      await warmUp(locker, true);
      for (const count of RESOURCES) {
        const names = Array.from({ length: count }, (_, index) => `resources:${name}:${index}`);
        const plan = { locks: LOCKS_PER_ROUND, extend: true, resources: () => names };
        runs.set(key(name, count), () => useAlone(locker, plan));
      }
    }
    const measured = await interleave(rounds, runs);
    const p50s = (name: string, count: number, step: Step): number[] =>
      medians((measured.get(key(name, count)) ?? []).map((latencies) => latencies[step]));
    const tables = RESOURCES.map((count) => ({
      columns: [
        { name: count === 1 ? "1 resource" : `${count} resources` },
        { name: "acquire p50 ms", digits: 3 },
        { name: "extend p50 ms", digits: 3 },
        { name: "release p50 ms", digits: 3 },
      ],
      rows: able.map(({ name }) => ({
        name,
        figures: (["acquire", "extend", "release"] as const).map((step) =>
          spread(p50s(name, count, step)),
        ),
      })),
    }));
    return { tables, goals: [] };
  } finally {
    for (const locker of lockers) locker.close();
  }
}

function key(name: string, count: number): string {
  return `${name}, ${count} resources`;
}
