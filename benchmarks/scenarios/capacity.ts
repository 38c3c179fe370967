import { ask, type RedisServer, until } from "../../tests/support/servers.js";
import { libraryNamed, OURS } from "../libraries.js";
import { median, spread } from "../measure.js";
import { loadPackage } from "../package-under-test.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { useTogether, warmUp } from "../workloads.js";

const USERS = 64;
const TURN_MS = 1_000;
const LOCKS = 5_000;
const BATCH = 250;
const TTL_MS = 600_000;
const LIMIT_MS = 60_000;

export const capacity: Scenario = {
  name: "capacity",
  title: "What the nodes need",
  about:
    `${USERS} users in one process acquire and release locks of their own for ${TURN_MS / 1_000} s a round. The CPU time of ` +
    "one node for that gives the number of locks that one core of a node can carry. Memory is the growth of `used_memory` " +
    `on the node with the median: of ${LOCKS} locks, and of ${LOCKS} locks with a fencing token. ` +
    "Connections are those of one process to one node.",
  rounds: { usual: 5, short: 1 },
  run,
};

/** Reads a number of INFO on each server. */
function infoOf(servers: readonly RedisServer[], section: string, name: string): Promise<number[]> {
  const line = new RegExp(`^${name}:(\\d+)`, "m");
  return Promise.all(
    servers.map(async ({ port }) => Number(line.exec(await ask(port, ["INFO", section]))?.[1])),
  );
}

async function run({ servers, libraries, packageUrl, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const locker = await libraryNamed(libraries, OURS).open(urls, "none");
  const nodeCpuUs: number[] = [];
  const clientCpuUs: number[] = [];
  try {
    await warmUp(locker, false);
    for (let round = 0; round < rounds; round++) {
      const plan = { users: USERS, forMs: TURN_MS, keyPrefix: "capacity" };
      const cost = await useTogether(locker, servers, plan);
      nodeCpuUs.push(cost.serverCpuUs / servers.length);
      clientCpuUs.push(cost.clientCpuUs);
    }
  } finally {
    locker.close();
  }
  const sizes = await measureSizes(servers, packageUrl);
  const { lock, fenced, idleConnections, waitingConnections } = sizes;
  const rows: readonly [string, Outcome["tables"][number]["rows"][number]["figures"]][] = [
    ["CPU of one node, µs an acquire and release", [spread(nodeCpuUs)]],
    ["acquire and release pairs per second of one node’s core", [1e6 / median(nodeCpuUs)]],
    ["CPU of the client, µs an acquire and release", [spread(clientCpuUs)]],
    ["pairs per second of one client’s core", [1e6 / median(clientCpuUs)]],
    ["bytes of a lock on each node", [lock]],
    ["bytes of a lock with a fencing token on each node", [fenced]],
    ["connections of a process to each node, until a call has waited", [idleConnections]],
    ["connections of a process to each node, from then on", [waitingConnections]],
  ];
  return {
    tables: [
      {
        columns: [{ name: "" }, { name: "measured", digits: 1 }],
        rows: rows.map(([name, figures]) => ({ name, figures })),
      },
    ],
    goals: [],
  };
}

async function measureSizes(servers: readonly RedisServer[], packageUrl: string) {
  const { Redlock } = await loadPackage(packageUrl);
  await Promise.all(servers.map(({ port }) => ask(port, ["FLUSHALL"])));
  const memory = (): Promise<number[]> => infoOf(servers, "memory", "used_memory");
  const connections = (): Promise<number[]> => infoOf(servers, "clients", "connected_clients");
  const keys = (): Promise<number[]> =>
    Promise.all(servers.map(async ({ port }) => Number(await ask(port, ["DBSIZE"]))));
  const others = await connections();
  const redlock = new Redlock(servers.map(({ url }) => url));
  try {
    // Its scripts and buffers are there from then on.
    const first = await redlock.acquire("capacity:first", TTL_MS, { fencing: true });
    const idle = await connections();
    const grown = async (count: number, use: () => Promise<unknown>): Promise<number> => {
      const before = await memory();
      await use();
      const after = await memory();
      return median(after.map((bytes, index) => (bytes - (before[index] ?? NaN)) / count));
    };
    const take = async (name: string, fencing: boolean, keysEach: number): Promise<void> => {
      const atStart = median(await keys());
      for (let next = 0; next < LOCKS; next += BATCH) {
        const names = Array.from({ length: BATCH }, (_, index) => `${name}:${next + index}`);
        await Promise.all(names.map((one) => redlock.acquire(one, TTL_MS, { fencing })));
      }
      // The nodes that did not vote in time get the locks afterwards.
      await until(
        async () => median(await keys()) >= atStart + LOCKS * keysEach,
        LIMIT_MS,
        () => "the nodes do not have all the locks",
      );
    };
    const lock = await grown(LOCKS, () => take("invoice", false, 1));
    const fenced = await grown(LOCKS, () => take("fenced", true, 2));
    const ending = new AbortController();
    const settings = { retryCount: -1, signal: ending.signal };
    const waiting = redlock.acquire("capacity:first", TTL_MS, settings).catch(() => undefined);
    await until(
      async () => (await redlock.holder("capacity:first"))?.waiters === 1,
      LIMIT_MS,
      () => "the call does not wait",
    );
    const whileWaiting = await connections();
    ending.abort();
    await waiting;
    await first.release();
    const more = (now: readonly number[]): number =>
      median(now.map((count, index) => count - (others[index] ?? NaN)));
    const [idleConnections, waitingConnections] = [more(idle), more(whileWaiting)];
    return { lock, fenced, idleConnections, waitingConnections };
  } finally {
    await redlock.quit();
  }
}
