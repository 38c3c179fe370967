import { ask } from "../../tests/support/servers.js";
import { interleave, median, spread, sum } from "../measure.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import { startWorker } from "../workers.js";
import { cpuOfServersUs } from "../workloads.js";
import type { Report, Task } from "./held-locks-worker.js";

/** How many locks, and held by what. */
interface Load {
  readonly count: number;
  readonly by: Task["by"];
}

const LOADS: readonly Load[] = [
  { count: 1_000, by: "using" },
  { count: 10_000, by: "using" },
  { count: 10_000, by: "autoExtend" },
  { count: 50_000, by: "using" },
];
const TTL_MS = 10_000;
/** From one extension to the next: a third of the ttl is left by then. */
const EXTENSION_PERIOD_MS = (TTL_MS * 2) / 3;
const PERIODS = 10;
const MOST_SHORT = 10_000;
const SHORT_PERIODS = 2;
const REPORT_LIMIT_MS = 30_000;
const MOST_CPU_PERCENT = { using: new Map([[10_000, 15]]), autoExtend: new Map([[10_000, 12]]) };
const MAY_LOSE_NONE = [10_000, 50_000];

export const heldLocks: Scenario = {
  name: "held-locks",
  title: "Many held locks",
  about:
    "One process holds locks by `using`, or by `acquire` with `autoExtend`, with a ttl of " +
    `${TTL_MS / 1_000} s for ${PERIODS} extension periods (${Math.round((EXTENSION_PERIOD_MS * PERIODS) / 1_000)} s). CPU is that of this process and of the five servers ` +
    "together, in % of one core. Heap is what one lock adds after a garbage collection. “Keys at the end” is the " +
    "number on the node with the third most: a quorum of nodes has at least as many.",
  rounds: { usual: 1, short: 1 },
  run,
};

interface Holding extends Report {
  readonly serverCpuPercent: number;
  readonly keysOnQuorum: number;
}

async function run({ servers, packageUrl, rounds, short }: Stage): Promise<Outcome> {
  const loads = LOADS.filter(({ count }) => !short || count <= MOST_SHORT);
  const forMs = Math.round(EXTENSION_PERIOD_MS * (short ? SHORT_PERIODS : PERIODS));
  const hold = async ({ count, by }: Load): Promise<Holding> => {
    await Promise.all(servers.map(({ port }) => ask(port, ["FLUSHALL"], 30_000)));
    const urls = servers.map(({ url }) => url);
    const task: Task = { packageUrl, urls, count, by, ttlMs: TTL_MS, forMs };
    const worker = await startWorker<Report>("held-locks-worker.ts", task);
    try {
      const before = await cpuOfServersUs(servers);
      const report = await worker.go(forMs + REPORT_LIMIT_MS);
      const serverCpuUs = (await cpuOfServersUs(servers)) - before;
      const keys = await Promise.all(
        servers.map(async ({ port }) => Number(await ask(port, ["DBSIZE"], 30_000))),
      );
      return {
        ...report,
        serverCpuPercent: (serverCpuUs / 1_000 / forMs) * 100,
        keysOnQuorum: median(keys),
      };
    } finally {
      worker.end();
    }
  };
  const runs = new Map(loads.map((load) => [inWords(load), () => hold(load)]));
  const measured = await interleave(rounds, runs);
  const holdings = loads.map((load) => ({ ...load, of: measured.get(inWords(load)) ?? [] }));

  const table = {
    columns: [
      { name: "held locks" },
      { name: "CPU %", digits: 1 },
      { name: "server CPU %", digits: 1 },
      { name: "heap KiB a lock", digits: 2 },
      { name: "memory (RSS) MiB", digits: 0 },
      { name: "validity ended" },
      { name: "keys at the end" },
      { name: "s to acquire them all", digits: 1 },
    ],
    rows: holdings.map(({ of, ...load }) => ({
      name: inWords(load),
      figures: [
        spread(of.map(({ cpuPercent }) => cpuPercent)),
        spread(of.map(({ serverCpuPercent }) => serverCpuPercent)),
        median(of.map(({ heapPerLockKib }) => heapPerLockKib)),
        median(of.map(({ rssMib }) => rssMib)),
        sum(of.map(({ lost }) => lost)),
        Math.min(...of.map(({ keysOnQuorum }) => keysOnQuorum)),
        median(of.map(({ rampUpMs }) => rampUpMs / 1_000)),
      ],
    })),
  };
  const goals = holdings.flatMap(({ of, ...load }): Goal[] => {
    const { count, by } = load;
    const cpu = spread(of.map(({ cpuPercent }) => cpuPercent));
    const lost = sum(of.map((holding) => holding.lost));
    const most = MOST_CPU_PERCENT[by].get(count);
    return [
      ...(most === undefined
        ? []
        : [
            {
              measure: `${inWords(load)} held locks: % of one core`,
              measured: cpu,
              digits: 1,
              goal: `under ${most}`,
              met: cpu.median < most,
            },
          ]),
      ...(MAY_LOSE_NONE.includes(count)
        ? [
            {
              measure: `${inWords(load)} held locks: whose validity ended`,
              measured: lost,
              digits: 0,
              goal: "none",
              met: lost === 0,
            },
          ]
        : []),
    ];
  });
  return { tables: [table], goals };
}

function inWords({ count, by }: Load): string {
  return by === "using" ? String(count) : `${count} by autoExtend`;
}
