import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import {
  LockLostError,
  NodeError,
  Redlock,
  type RedlockEvents,
  type RedlockSettings,
} from "../../src/index.js";
import { defined, fresh, occupy, rejection, untilHeld } from "../support/nodes.js";
import { type RedisServer, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

const TTL_MS = 60_000;
/** Long, so that a busy machine fails no vote. */
const PATIENT_MS = 5000;
const NAMES = [
  ...["acquired", "extended", "released", "lost", "waiting"],
  ...["node:down", "node:up"],
] as readonly (keyof RedlockEvents)[];

const servers = useServers(3);
const opened: Redlock[] = [];
let heard: [string, unknown][] = [];

beforeEach(() => {
  heard = [];
});

afterEach(async () => {
  await Promise.all(opened.splice(0).map((redlock) => redlock.quit()));
});

/** A Redlock whose nodes are all connected, and whose events are kept from then on. */
async function listened(settings: RedlockSettings): Promise<Redlock> {
  const redlock = new Redlock(
    servers.map(({ url }) => url),
    { retryCount: 0, ...settings },
  );
  opened.push(redlock);
  await until(
    async () => (await redlock.inspect("resource")).every(({ ok }) => ok),
    10_000,
    () => "not every node could be connected",
  );
  for (const name of NAMES) redlock.on(name, (event: unknown) => heard.push([name, event]));
  return redlock;
}

function nameOf({ port }: RedisServer): string {
  return `127.0.0.1:${port}`;
}

async function untilHeard(name: string, count: number): Promise<void> {
  await until(
    () => heard.filter(([heardName]) => heardName === name).length >= count,
    20_000,
    () => `not ${count} of ${name} were emitted, but ${heard.map(([one]) => one).join(", ")}`,
  );
}

describe("the events of a lock", () => {
  test("come once each, in their order, with the lock", async () => {
    const redlock = await listened({ nodeTimeout: PATIENT_MS });
    const lock = await redlock.acquire(fresh(), TTL_MS);
    await lock.extend(TTL_MS);
    await lock.release();
    await lock.release();
    expect(heard).toEqual([
      ["acquired", { lock, waitedMs: expect.any(Number), attempts: 1 }],
      ["extended", { lock }],
      ["released", { lock }],
    ]);
  });

  test("tell of a loss once, with what the signal aborts with", async () => {
    const redlock = await listened({ nodeTimeout: PATIENT_MS });
    const lock = await redlock.acquire(fresh(), 3000, { autoExtend: true });
    await untilHeld(servers, lock);
    await redlock.forceRelease(lock.resources);
    await untilHeard("lost", 1);
    await rejection(lock.extend(TTL_MS));
    await lock.release();
    expect(lock.signal.reason).toBeInstanceOf(LockLostError);
    expect(heard.map(([name]) => name)).toEqual(["acquired", "lost"]);
    expect(heard[1]).toEqual([
      "lost",
      { lock, error: lock.signal.reason as unknown, isPassedOn: false },
    ]);
  });

  test("tell once of a call that waits, and then for how long it did", async () => {
    const redlock = await listened({ nodeTimeout: PATIENT_MS });
    const resource = fresh();
    const first = await redlock.acquire(resource, TTL_MS);
    const waiting = redlock.acquire(resource, TTL_MS, { retryCount: -1 });
    await untilHeard("waiting", 1);
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 300));
    await first.release();
    const second = await waiting;
    const waitedMs = performance.now() - start;
    expect(heard.map(([name]) => name)).toEqual(["acquired", "waiting", "released", "acquired"]);
    expect(heard[1]).toEqual(["waiting", { resources: [resource] }]);
    const [, event] = defined(heard[3]) as [string, RedlockEvents["acquired"][0]];
    expect(event.lock).toBe(second);
    expect(event.waitedMs).toBeGreaterThanOrEqual(Math.floor(waitedMs) - 1);
    await second.release();
  });

  test("do not tell of a call that failed, nor that a node refused", async () => {
    const redlock = await listened({ nodeTimeout: PATIENT_MS });
    const resource = fresh();
    await occupy(servers, resource);
    await rejection(redlock.acquire(resource, TTL_MS));
    expect(heard).toEqual([]);
  });

  test("do not disturb the library if a listener throws, or all are removed", async () => {
    const redlock = await listened({ nodeTimeout: PATIENT_MS });
    redlock.removeAllListeners();
    const resource = fresh();
    await occupy(servers, resource);
    await rejection(redlock.acquire(resource, TTL_MS));
    await (await redlock.acquire(fresh(), TTL_MS)).release();
    expect(heard).toEqual([]);
  });
});

describe("node:down and node:up", () => {
  /** Acquires and releases, as a service does all the time. */
  async function use(redlock: Redlock, times = 5): Promise<void> {
    for (let count = 0; count < times; count++) {
      await (await redlock.acquire(fresh(), TTL_MS, { retryCount: -1 })).release();
    }
  }

  test("tell once that a server is frozen, and once that it goes on", async () => {
    const redlock = await listened({ nodeTimeout: 500, restartGuard: false });
    const frozen = defined(servers[0]);
    await frozen.freeze();
    try {
      await use(redlock, 1);
      await untilHeard("node:down", 1);
      await use(redlock);
    } finally {
      frozen.thaw();
    }
    await untilHeard("node:up", 1);
    await use(redlock);
    const nodes = heard.filter(([name]) => name.startsWith("node:"));
    expect(nodes).toEqual([
      ["node:down", { node: nameOf(frozen), reason: expect.any(NodeError) }],
      ["node:up", { node: nameOf(frozen), downMs: expect.any(Number) }],
    ]);
    const { reason } = nodes[0]?.[1] as RedlockEvents["node:down"][0];
    expect(reason).toMatchObject({ code: "ERR_REDLOCK_NODE_TIMEOUT", node: nameOf(frozen) });
    const { downMs } = nodes[1]?.[1] as RedlockEvents["node:up"][0];
    expect(downMs).toBeGreaterThan(0);
  });

  test("tell once that a server is dead, and once that it is back, without any call", async () => {
    const redlock = await listened({ nodeTimeout: PATIENT_MS, restartGuard: false });
    const dead = defined(servers[1]);
    await dead.kill();
    await until(
      async () => {
        await use(redlock, 1);
        return heard.some(([name]) => name === "node:down");
      },
      20_000,
      () => "node:down was not emitted",
    );
    await use(redlock, 20);
    await dead.restart();
    await untilHeard("node:up", 1);
    await use(redlock);
    const nodes = heard.filter(([name]) => name.startsWith("node:"));
    expect(nodes).toEqual([
      ["node:down", { node: nameOf(dead), reason: expect.any(NodeError) }],
      ["node:up", { node: nameOf(dead), downMs: expect.any(Number) }],
    ]);
    const { reason } = nodes[0]?.[1] as RedlockEvents["node:down"][0];
    expect(reason).toMatchObject({ code: "ERR_REDLOCK_NODE_DOWN", node: nameOf(dead) });
  });

  test("tell of each outage once, also of the second", async () => {
    const redlock = await listened({ nodeTimeout: 500, restartGuard: false });
    const frozen = defined(servers[2]);
    for (const times of [1, 2]) {
      await frozen.freeze();
      try {
        await use(redlock, 3);
        await untilHeard("node:down", times);
      } finally {
        frozen.thaw();
      }
      await untilHeard("node:up", times);
      await use(redlock, 3);
    }
    const names = heard.map(([name]) => name).filter((name) => name.startsWith("node:"));
    expect(names).toEqual(["node:down", "node:up", "node:down", "node:up"]);
  });

  test("do not come of quit()", async () => {
    const redlock = await listened({ nodeTimeout: 500 });
    await use(redlock, 1);
    await redlock.quit();
    expect(heard.filter(([name]) => name.startsWith("node:"))).toEqual([]);
  });
});
