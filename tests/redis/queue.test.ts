import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { isLikeIoredis } from "../support/clients.js";
import { ask, slowness, startServers, stopAll, until } from "../support/servers.js";
import { type Lock, Redlock, type RedlockSettings } from "../../src/index.js";
import { takeScript } from "../../src/operations/take.js";
import {
  cacheQueueScripts,
  heldOn,
  listenersOn,
  joinAbsent,
  Turns,
  untilWaiting,
} from "../support/line.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  occupy,
  type RecordingClient,
  rejection,
  untilFree,
  valuesOn,
  valuesAskedFor,
} from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";

/** A test that replaces the client's method `call`, or that gives the client to another library. */
const testOfIoredis = isLikeIoredis ? test : test.skip;

/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;
/** No retry timer helps a waiter along. */
const NO_RETRY = { retryCount: -1, retryDelay: 50_000, retryJitter: 0 };

let redlock: Redlock;
const servers = useServers(5, { beforeStop: () => redlock.quit() });
const connected: RecordingClient[] = [];
/** Clients of the tests' own, which are of ioredis whatever the library runs with. */
const plainClients: Redis[] = [];

beforeAll(async () => {
  await cacheQueueScripts(servers);
  redlock = new Redlock(
    servers.map(({ url }) => url),
    { nodeTimeout: NODE_TIMEOUT_MS },
  );
  await (await redlock.acquire(fresh(), 5000)).release();
});

afterEach(() => {
  disconnectAll([...connected.splice(0), ...plainClients.splice(0)]);
});

/** Another Redlock with connections of its own, as another process has it. */
async function another(settings: RedlockSettings = {}): Promise<Redlock> {
  const clients = await connectAll(servers);
  connected.push(...clients);
  return new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS, ...NO_RETRY, ...settings });
}

function others(count: number): Promise<Redlock[]> {
  return Promise.all(Array.from({ length: count }, () => another()));
}

/** Each asks once the one before it stands in line on every node. */
async function waitOneByOne(
  waiting: readonly Redlock[],
  resource: string,
): Promise<Promise<Lock>[]> {
  const locks: Promise<Lock>[] = [];
  for (const one of waiting) {
    locks.push(one.acquire(resource, 60_000));
    await untilWaiting(redlock, resource, locks.length);
  }
  return locks;
}

/** Rejects where it takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = sleep(ms, undefined, { signal: over.signal }).then(() => {
    throw new Error(`not there in ${ms} ms`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}

describe("a line", () => {
  test("serves those who wait in the order in which they came", async () => {
    const resource = fresh();
    const first = await redlock.acquire(resource, 60_000);
    const locks = await waitOneByOne(await others(6), resource);
    const turns = new Turns<number>();
    const all = locks.map(async (lock, index) => turns.take(index, await lock, () => undefined));
    await first.release();
    await Promise.all(all);
    expect(turns.order).toEqual([0, 1, 2, 3, 4, 5]);
    expect(turns.mostAtOnce).toBe(1);
    await untilFree(servers, resource);
  });

  test("leaves no moment between two holders in which the key is free", async () => {
    const resource = fresh();
    const first = await redlock.acquire(resource, 60_000);
    const locks = await waitOneByOne(await others(6), resource);
    const clients = servers.map(({ port }) => new Redis(port, "127.0.0.1"));
    plainClients.push(...clients);
    let isOver = false;
    let tries = 0;
    const taken: unknown[] = [];
    const newcomers = clients.map(async (client) => {
      while (!isOver) {
        if ((await client.set(resource, "newcomer", "PX", 100, "NX")) !== null) taken.push(tries);
        tries += 1;
      }
    });
    const holders = locks.map(async (lock) => {
      const held = await lock;
      const triesBefore = tries;
      await until(
        () => tries > triesBefore + 20,
        10_000,
        () => "nobody tries",
      );
      return held;
    });
    await first.release();
    for (const holder of holders.slice(0, -1)) await (await holder).release();
    const last = await defined(holders.at(-1));
    isOver = true;
    await Promise.all(newcomers);
    expect(taken).toEqual([]);
    await last.release();
  });

  test("is not overtaken by the one who has just released", async () => {
    const resource = fresh();
    const first = await redlock.acquire(resource, 60_000);
    const [second] = await waitOneByOne([await another()], resource);
    const turns = new Turns<string>();
    const served = defined(second).then((lock) => turns.take("who waited", lock, () => undefined));
    const again = first
      .release()
      .then(() => redlock.acquire(resource, 60_000, NO_RETRY))
      .then((lock) => turns.take("who released", lock, () => undefined));
    await Promise.all([served, again]);
    expect(turns.order).toEqual(["who waited", "who released"]);
  });

  test("keeps the key for the one who is next", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await joinAbsent(servers, resource, "absent");
    await joinAbsent(servers, resource, "behind");
    await lock.release();
    await until(
      async () => (await heldOn(redlock, resource)).every(({ value }) => value === null),
      5000,
      () => "a node still holds the lock",
    );
    for (const found of await heldOn(redlock, resource)) {
      expect(found).toMatchObject({ type: "string", value: null, reservedFor: "absent" });
      expect(found.remainingMs).toBeGreaterThan(20_000);
      expect(found.remainingMs).toBeLessThanOrEqual(30_000);
      expect(found.waiters.map(({ id }) => id)).toEqual(["behind"]);
    }
    expect(await redlock.tryAcquire(resource, 5000)).toBeNull();
  });

  test("passes over one who cannot hear that it is next", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await joinAbsent(servers, resource, "deaf", { channel: "nobody listens to it" });
    const [next] = await waitOneByOneBehind(1, resource);
    await lock.release();
    // Far sooner than the key would be kept for the other.
    const held = await within(10_000, defined(next));
    await held.release();
  });

  test("passes over one who has not asked again for longer than it said", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await joinAbsent(servers, resource, "alive");
    await joinAbsent(servers, resource, "stale", { lifeMs: 1, ticketMs: Date.now() - 10_000 });
    await untilWaiting(redlock, resource, 1);
    await lock.release();
    await until(
      async () =>
        (await heldOn(redlock, resource)).every(({ reservedFor }) => reservedFor === "alive"),
      5000,
      () => "the key is not kept for the one who is alive",
    );
  });

  test("lets one who came earlier take what is kept for one who came later", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const clients = await connectAll(servers);
    connected.push(...clients);
    const early = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS, retryDelay: 20 });
    const taken = early.acquire(resource, 5000, { retryCount: -1 });
    await untilWaiting(redlock, resource, 1);
    const later = `reserved ${Date.now() + 60_000} later`;
    await Promise.all(
      servers.map(({ port }) => ask(port, ["SET", resource, later, "PX", "60000"])),
    );
    await (await within(10_000, taken)).release();
    await lock.release();
  });

  async function waitOneByOneBehind(count: number, resource: string): Promise<Promise<Lock>[]> {
    const locks: Promise<Lock>[] = [];
    for (const one of await others(count)) {
      locks.push(one.acquire(resource, 60_000));
      await untilWaiting(redlock, resource, locks.length + 1);
    }
    return locks;
  }
});

describe("inspect", () => {
  test("says who waits, since when, in the order of the line", async () => {
    const resource = fresh();
    const startMs = Date.now();
    const lock = await redlock.acquire(resource, 60_000);
    const locks = await waitOneByOne(await others(3), resource);
    const endMs = Date.now();
    const lines = (await heldOn(redlock, resource)).map(({ waiters }) => waiters);
    const line = defined(lines[0]);
    expect(lines).toEqual(Array(5).fill(line));
    expect(new Set(line.map(({ id }) => id)).size).toBe(3);
    const sinceMs = line.map(({ since }) => since);
    expect(sinceMs).toEqual(sinceMs.toSorted((a, b) => a - b));
    // By the nodes' clocks, which are those of this machine, as seen over a connection.
    expect(defined(sinceMs[0])).toBeGreaterThan(startMs - 100);
    expect(defined(sinceMs.at(-1))).toBeLessThan(endMs + 100);
    await lock.release();
    for (const waiting of locks) await (await waiting).release();
  });

  test("says that nobody waits for what is free, or held by one alone", async () => {
    const resource = fresh();
    for (const { waiters } of await heldOn(redlock, resource)) expect(waiters).toEqual([]);
    const lock = await redlock.acquire(resource, 60_000);
    for (const found of await heldOn(redlock, resource)) {
      expect(found.waiters).toEqual([]);
      expect(found).not.toHaveProperty("reservedFor");
    }
    await lock.release();
  });
});

describe("a waiter leaves the line", () => {
  test("when it has acquired", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const [next] = await waitOneByOne([await another()], resource);
    await lock.release();
    const held = await defined(next);
    await untilWaiting(redlock, resource, 0);
    expect(held.valid).toBe(true);
    await held.release();
    await untilFree(servers, resource);
  });

  test.each([
    ["its signal aborts", (signal: AbortSignal) => ({ signal })],
    // It must be seen there first, which takes longer on a busy machine.
    ["its acquireTimeout is over", () => ({ acquireTimeout: Math.ceil(400 * slowness()) })],
    [
      "its retries are used up",
      () => ({ retryCount: 2, retryDelay: Math.ceil(100 * slowness()), retryJitter: 0 }),
    ],
  ])("when %s", async (_, settings) => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const over = new AbortController();
    const waiting = rejection((await another()).acquire(resource, 5000, settings(over.signal)));
    await untilWaiting(redlock, resource, 1);
    over.abort();
    await waiting;
    await untilWaiting(redlock, resource, 0);
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(lock.value));
    await lock.release();
  });

  testOfIoredis("and passes on what is kept for it", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    // It hears nothing and polls, but in the end its polls do not come through.
    const clients = await connectAll(servers);
    connected.push(...clients);
    let isCutOff = false;
    const lost: ((error: Error) => void)[] = [];
    for (const client of clients) {
      const call = client.call.bind(client) as (...args: unknown[]) => Promise<unknown>;
      const callOrLose = (...args: unknown[]): Promise<unknown> => {
        if (!isCutOff || !args.includes(takeScript.sha1)) return call(...args);
        return new Promise((_, reject) => lost.push(reject));
      };
      Object.assign(client, { duplicate: undefined, call: callOrLose });
    }
    const deaf = new Redlock(clients, { nodeTimeout: 60_000, ...NO_RETRY });
    const over = new AbortController();
    const given = rejection(deaf.acquire(resource, 60_000, { signal: over.signal }));
    await untilWaiting(redlock, resource, 1);
    const second = (await another()).acquire(resource, 60_000);
    const { id } = defined((await untilWaiting(redlock, resource, 2))[0]);
    isCutOff = true;
    await until(
      () => lost.length === clients.length,
      60_000,
      () => "it does not poll",
    );
    await lock.release();
    await until(
      async () => (await heldOn(redlock, resource)).every(({ reservedFor }) => reservedFor === id),
      5000,
      () => "the key is not kept for who polls",
    );
    over.abort();
    await given;
    const held = await within(10_000, second);
    await held.release();
    // Otherwise its round, and the process, would wait for their replies for a minute.
    for (const reject of lost) reject(new Error("Connection is closed."));
  });
});

test("a failed attempt deletes what it had set, whoever waits there", async () => {
  const resource = fresh();
  await occupy(servers.slice(0, 3), resource);
  await joinAbsent(servers.slice(3), resource, "absent");
  await rejection(redlock.acquire(resource, 60_000, { retryCount: 0 }));
  await untilFree(servers.slice(3), resource);
  const [, , , ...free] = await heldOn(redlock, resource);
  expect(free.map(({ waiters }) => waiters.length)).toEqual([1, 1]);
});

describe("where a node has no memory for what a release does", () => {
  let clients: RecordingClient[];
  let first: Redlock;
  const own = useServers(3, {
    beforeStop: () => {
      disconnectAll(clients);
    },
  });

  beforeAll(async () => {
    await cacheQueueScripts(own);
    clients = await connectAll([...own, ...own]);
    first = new Redlock(clients.slice(0, 3), { nodeTimeout: NODE_TIMEOUT_MS });
  });

  async function withoutMemory(use: () => Promise<void>): Promise<void> {
    const limit = (bytes: string) =>
      Promise.all(own.map(({ port }) => ask(port, ["CONFIG", "SET", "maxmemory", bytes])));
    await limit("1");
    try {
      await use();
    } finally {
      await limit("0");
    }
  }

  test("the lock is freed all the same", async () => {
    const resource = fresh();
    const lock = await first.acquire(resource, 60_000);
    await joinAbsent(own, resource, "absent");
    await withoutMemory(async () => {
      const { attempts } = await lock.release();
      expect((await defined(attempts[0])).votesAgainst.size).toBe(0);
      await untilFree(own, resource);
    });
  });

  test("who waits is called all the same", async () => {
    const resource = fresh();
    const second = new Redlock(clients.slice(3), { nodeTimeout: NODE_TIMEOUT_MS, ...NO_RETRY });
    const lock = await first.acquire(resource, 60_000);
    const next = second.acquire(resource, 60_000);
    await untilWaiting(first, resource, 1);
    await withoutMemory(async () => {
      await lock.release();
      // Redis lets a script go on that has written once: what frees memory comes first.
      await within(10_000, next);
    });
    await (await next).release();
  });
});

describe("waiters of one Redlock", () => {
  test("share one subscription for each node, which is closed after five idle seconds", async () => {
    const own = await startServers(3);
    await cacheQueueScripts(own);
    const clients = await connectAll(own);
    try {
      const one = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS, ...NO_RETRY });
      const resources = Array.from({ length: 10 }, () => fresh());
      const locks = await Promise.all(resources.map((resource) => one.acquire(resource, 60_000)));
      expect(await Promise.all(own.map(listenersOn))).toEqual([0, 0, 0]);
      const waiting = resources.flatMap((resource) =>
        Array.from({ length: 5 }, async () => (await one.acquire(resource, 60_000)).release()),
      );
      for (const resource of resources) await untilWaiting(one, resource, 1);
      expect(await Promise.all(own.map(listenersOn))).toEqual([1, 1, 1]);
      await Promise.all(locks.map((lock) => lock.release()));
      await Promise.all(waiting);

      const idleMs = performance.now();
      await until(
        async () => (await Promise.all(own.map(listenersOn))).every((count) => count === 0),
        10_000,
        () => "a subscription is left",
      );
      expect(performance.now() - idleMs).toBeGreaterThan(4500);
      // And is opened again for who waits later.
      const resource = fresh();
      const lock = await one.acquire(resource, 60_000);
      const next = one.acquire(resource, 60_000);
      await untilWaiting(one, resource, 1);
      expect(await Promise.all(own.map(listenersOn))).toEqual([1, 1, 1]);
      await lock.release();
      await (await next).release();
    } finally {
      disconnectAll(clients);
      await stopAll(own);
    }
  });

  test("are served in order, for a few commands a turn however many they are", async () => {
    const WAITERS = 200;
    const resource = fresh();
    const one = await another();
    const lock = await redlock.acquire(resource, 60_000);
    const turns = new Turns<number>();
    const clients = connected.slice(-5);
    const all = Array.from({ length: WAITERS }, async (_, index) =>
      turns.take(index, await one.acquire(resource, 60_000), () => undefined),
    );
    await untilWaiting(redlock, resource, 1);
    for (const client of clients) client.sent = [];
    await lock.release();
    await Promise.all(all);
    expect(turns.order).toEqual(Array.from({ length: WAITERS }, (_, index) => index));
    expect(turns.mostAtOnce).toBe(1);
    const perTurn = clients.map(({ sent }) => sent.length / WAITERS);
    // The join, the take and the release.
    expect(Math.max(...perTurn)).toBeLessThan(4);
  });
});

test("waiters for two resources in opposite orders never block one another for good", async () => {
  const [a, b] = [fresh(), fresh()];
  const turns = new Turns<number>();
  const all = (await others(8)).map(async (one, index) => {
    const resources = index % 2 === 0 ? [a, b] : [b, a];
    for (let turn = 0; turn < 5; turn++) {
      await turns.take(index, await one.acquire(resources, 60_000), () => sleep(1));
    }
  });
  await within(30_000, Promise.all(all));
  expect(turns.order).toHaveLength(40);
  expect(turns.mostAtOnce).toBe(1);
  await untilFree(servers, a);
  await untilFree(servers, b);
});

describe("with `queue: false`", () => {
  test("who waits polls, and nobody touches a line", async () => {
    const resource = fresh();
    const holder = await another({ queue: false });
    const poller = await another({ queue: false, retryDelay: 10, retryJitter: 5 });
    const lock = await holder.acquire(resource, 60_000);
    const next = poller.acquire(resource, 60_000);
    await until(
      () => valuesAskedFor(connected[5], resource).length > 5,
      10_000,
      () => "it does not poll",
    );
    await lock.release();
    await (await next).release();
    const sent = connected.flatMap((client) => client.sent);
    expect(sent.filter((line) => line.includes(`{${resource}}`))).toEqual([]);
    expect(sent.some((line) => line.startsWith("set "))).toBe(true);
  });

  test.each([
    ["the constructor", { queue: false }, {}],
    ["acquire", {}, { queue: false }],
  ])("given to %s, a release deletes the key, whoever waits in line", async (_, all, call) => {
    const resource = fresh();
    const lock = await (await another(all)).acquire(resource, 60_000, call);
    await joinAbsent(servers, resource, "absent");
    await lock.release();
    await untilFree(servers, resource);
  });

  test("given to using, its release deletes the key, whoever waits in line", async () => {
    const resource = fresh();
    await (
      await another()
    ).using(resource, 60_000, { queue: false }, () => joinAbsent(servers, resource, "absent"));
    await untilFree(servers, resource);
  });

  test("given to the constructor alone, a lock acquired with `queue: true` is handed over", async () => {
    const resource = fresh();
    const lock = await (await another({ queue: false })).acquire(resource, 60_000, { queue: true });
    const next = (await another()).acquire(resource, 60_000);
    await untilWaiting(redlock, resource, 1);
    await lock.release();
    await (await within(30_000, next)).release();
  });
});

interface V5Lock {
  release(): Promise<unknown>;
}
interface V5Redlock {
  acquire(resources: string[], duration: number, settings?: object): Promise<V5Lock>;
  on(event: "error", listener: () => void): void;
}
type V5Constructor = new (clients: Iterable<object>, settings?: object) => V5Redlock;

testOfIoredis(
  "a node-redlock 5 that polls the same key never holds it together with one of a line",
  async () => {
    const { default: V5 } = createRequire(import.meta.url)("redlock-5") as {
      default: V5Constructor;
    };
    const resource = fresh();
    const clients = await connectAll(servers);
    connected.push(...clients);
    const old = new V5(clients, { retryCount: -1, retryDelay: 5, retryJitter: 2 });
    old.on("error", () => undefined);
    const turns = new Turns<string>();
    const oldTurns = async (): Promise<void> => {
      for (let turn = 0; turn < 10; turn++) {
        await turns.take("old", await old.acquire([resource], 30_000), () => sleep(1));
      }
    };
    const ourTurns = async (one: Redlock): Promise<void> => {
      for (let turn = 0; turn < 20; turn++) {
        const lock = await one.acquire(resource, 30_000, { retryDelay: 20, retryJitter: 10 });
        await turns.take("ours", lock, () => sleep(1));
      }
    };
    await Promise.all([oldTurns(), ...(await others(3)).map(ourTurns)]);
    expect(turns.mostAtOnce).toBe(1);
  },
);
