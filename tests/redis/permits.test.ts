import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "@jest/globals";
import { type NodeInspection, Redlock } from "../../src/index.js";
import { defined, fresh } from "../support/nodes.js";
import { until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

const PERMITS = 3;
const SETTINGS = { permits: PERMITS, retryCount: -1 };

const servers = useServers(5);
const redlocks: Redlock[] = [];

afterEach(async () => {
  await Promise.all(redlocks.splice(0).map((redlock) => redlock.quit()));
});

function connect(): Redlock {
  const urls = servers.map(({ url }) => url);
  const redlock = new Redlock(urls, { nodeTimeout: 5000 });
  redlocks.push(redlock);
  return redlock;
}

test.each([0, 2])(
  "a crowd takes turns, never more at once than there are permits (%s servers dead)",
  async (dead) => {
    const resource = fresh();
    const holding = new Set<number>();
    let turns = 0;
    let most = 0;
    const work = async (redlock: Redlock): Promise<void> => {
      for (let turn = 0; turn < 5; turn++) {
        await redlock.using(resource, 10_000, SETTINGS, async (_, { permit }) => {
          expect(holding).not.toContain(permit);
          holding.add(defined(permit));
          most = Math.max(most, holding.size);
          turns += 1;
          // Until then a turn lasts as long as the others need to get the permits that are left.
          await until(
            () => most === PERMITS,
            30_000,
            () => `only ${most} of ${PERMITS} permits were taken at once`,
          );
          await sleep(5);
          holding.delete(defined(permit));
        });
      }
    };
    const clients = [connect(), connect(), connect()];
    const gone = servers.slice(0, dead);
    await Promise.all(gone.map((server) => server.kill()));
    try {
      await Promise.all(clients.flatMap((client) => [1, 2, 3, 4].map(() => work(client))));
    } finally {
      for (const server of gone) await server.restart();
    }
    expect(turns).toBe(3 * 4 * 5);
    expect(most).toBe(PERMITS);
  },
);

test("a permit is handed over, and found by holder() and inspect()", async () => {
  const resource = fresh();
  const [first, second] = [connect(), connect()];
  const locks = await Promise.all([1, 2, 3].map(() => first.acquire(resource, 30_000, SETTINGS)));
  expect(locks.map(({ permit }) => permit).sort()).toEqual([0, 1, 2]);
  expect(await second.tryAcquire(resource, 1000, { permits: PERMITS })).toBeNull();
  const holders = await second.holder(resource, { permits: PERMITS });
  expect(new Set(holders.map((holder) => holder?.value))).toEqual(
    new Set(locks.map(({ value }) => value)),
  );
  const next = second.acquire(resource, 30_000, SETTINGS);
  await untilWaitingForPermit(second, resource);
  await locks[1]?.release();
  expect((await next).permit).toBe(locks[1]?.permit);
});

async function untilWaitingForPermit(redlock: Redlock, resource: string): Promise<void> {
  let nodes: NodeInspection[] = [];
  await until(
    async () => {
      nodes = await redlock.inspect(resource, { permits: PERMITS });
      return nodes.every(({ resources: [found] }) => found?.waiters.length === 1);
    },
    10_000,
    () => `nobody waits: ${JSON.stringify(nodes)}`,
  );
}
