import { createRequire } from "node:module";
import { Redis } from "ioredis";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { type Lock, type LockJson, Redlock } from "../../src/index.js";
import { memoryNodes } from "../../src/testing/index.js";
import { untilWaiting } from "../support/line.js";
import {
  defined,
  disconnectAll,
  fresh,
  occupy,
  rejection,
  untilFree,
  untilHeld,
  valuesOn,
} from "../support/nodes.js";
import { documentedRights } from "../support/rights.js";
import { ask, startRedisCluster, until } from "../support/servers.js";
import { useOthers, useServersAndClients } from "../support/use-servers.js";

/** Long, so that a busy machine fails no vote. */
const PATIENT_MS = 5000;
const TTL_MS = 60_000;
const READ = { shared: true } as const;

const { servers, clients } = useServersAndClients(3);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients, { nodeTimeout: PATIENT_MS, owner: "reader-1" });
});

/** Another Redlock of the same nodes, with connections of its own, as another process has it. */
const another = useOthers(servers, { nodeTimeout: PATIENT_MS });

function setOf(resource: string): string {
  return `{${resource}}:redlock:shared`;
}

async function onEach(...command: string[]): Promise<string[]> {
  return Promise.all(servers.map(async ({ port }) => ask(port, command)));
}

/** A lock is given to every node; on those that were late it is a moment after the grant. */
async function untilRead({ resources, value }: Lock): Promise<void> {
  for (const resource of resources) {
    await until(
      async () => {
        const ranks = await onEach(
          "EVAL",
          "return redis.call('ZRANK', KEYS[1], ARGV[1]) and 1 or 0",
          "1",
          setOf(resource),
          value,
        );
        return ranks.every((found) => found === "1");
      },
      5000,
      () => `${resource} is not read on every server`,
    );
  }
}

describe("readers", () => {
  test("hold a resource together, each with a value of its own", async () => {
    const resource = fresh();
    const [one, two] = await Promise.all([
      redlock.acquire(resource, TTL_MS, READ),
      another().acquire(resource, TTL_MS, READ),
    ]);
    expect([one.shared, two.shared, one.valid, two.valid]).toEqual([true, true, true, true]);
    expect(one.value).not.toBe(two.value);
    await Promise.all([untilRead(one), untilRead(two)]);
    expect(await valuesOn(servers, resource)).toEqual(["shared", "shared", "shared"]);
    await one.release();
    expect(await redlock.tryAcquire(resource, TTL_MS)).toBeNull();
    await two.release();
    await untilFree(servers, resource);
    expect(await onEach("EXISTS", setOf(resource))).toEqual(["0", "0", "0"]);
  });

  test("are refused while a lock without shared is held, and it while they read", async () => {
    const resource = fresh();
    const writer = await another({ owner: "writer-1" }).acquire(resource, TTL_MS);
    await untilHeld(servers, writer);
    expect(await redlock.tryAcquire(resource, TTL_MS, READ)).toBeNull();
    const refused = await rejection(
      redlock.acquire(resource, TTL_MS, { ...READ, acquireTimeout: 0 }),
    );
    expect(refused.reason).toBe("held");
    expect(refused.message).toContain(`${resource} is held by writer-1 for another`);
    await writer.release();
    const reader = await redlock.acquire(resource, TTL_MS, READ);
    await untilRead(reader);
    const kept = await rejection(another().acquire(resource, TTL_MS, { acquireTimeout: 0 }));
    expect(kept.reason).toBe("held");
    expect(kept.message).toContain(`${resource} is held by readers for another`);
    await reader.release();
  });

  test("hold several resources, all or none", async () => {
    const [first, second] = [fresh(), fresh()];
    const writer = await another().acquire(second, TTL_MS);
    await untilHeld(servers, writer);
    expect(await redlock.tryAcquire([first, second], TTL_MS, READ)).toBeNull();
    await untilFree(servers, first);
    await writer.release();
    const reader = await redlock.acquire([first, second], TTL_MS, READ);
    expect(await another().tryAcquire(first, TTL_MS, READ)).not.toBeNull();
    await reader.release();
    await untilFree(servers, second);
  });

  test("and locks of node-redlock exclude each other", async () => {
    const { default: V5 } = createRequire(import.meta.url)("redlock-5") as {
      default: new (
        clients: Iterable<object>,
        settings: object,
      ) => {
        acquire(resources: string[], duration: number): Promise<{ release(): Promise<unknown> }>;
      };
    };
    // Whatever the library runs with: node-redlock takes no other clients.
    const own = servers.map(({ port }) => new Redis(port, "127.0.0.1"));
    try {
      const old = new V5(own, { retryCount: 0 });
      const resource = fresh();
      const lock = await old.acquire([resource], TTL_MS);
      expect(await redlock.tryAcquire(resource, TTL_MS, READ)).toBeNull();
      await lock.release();
      // It resolves when a quorum has released, and the last node would refuse the reader.
      await untilFree(servers, resource);
      const reader = await redlock.acquire(resource, TTL_MS, READ);
      await untilRead(reader);
      await expect(old.acquire([resource], TTL_MS)).rejects.toThrow(/quorum/);
      expect(await valuesOn(servers, resource)).toEqual(["shared", "shared", "shared"]);
      await reader.release();
    } finally {
      disconnectAll(own);
    }
  });

  test("are extended also by servers that have no memory for more", async () => {
    const resource = fresh();
    const reader = await redlock.acquire(resource, TTL_MS, READ);
    await untilRead(reader);
    await onEach("CONFIG", "SET", "maxmemory", "1");
    try {
      const refused = redlock.acquire(fresh(), TTL_MS, { retryCount: 0 });
      expect((await rejection(refused)).message).toMatch(/OOM/);
      await redlock.extend(reader, 2 * TTL_MS, { retryCount: 0 });
      expect(reader.remaining).toBeGreaterThan(TTL_MS);
    } finally {
      await onEach("CONFIG", "SET", "maxmemory", "0");
    }
    expect(await another().tryAcquire(resource, TTL_MS)).toBeNull();
    await untilRead(reader);
    await reader.release();
    await untilFree(servers, resource);
  });

  test("leave alone a key that holds the word as the value of another lock", async () => {
    const resource = fresh();
    await occupy(servers, resource, "shared");
    expect(await redlock.tryAcquire(resource, TTL_MS, READ)).toBeNull();
    expect(await valuesOn(servers, resource)).toEqual(["shared", "shared", "shared"]);
    expect(await onEach("PTTL", resource)).toEqual(["-1", "-1", "-1"]);
    const [ended] = await redlock.forceRelease(resource);
    expect(ended?.value).toBe("shared");
    await untilFree(servers, resource);
  });
});

describe("the marker of readers", () => {
  test("lives as long as the reader that ends last, and no longer", async () => {
    const resource = fresh();
    const long = await redlock.acquire(resource, TTL_MS, READ);
    const short = await redlock.acquire(resource, 20_000, READ);
    await Promise.all([untilRead(long), untilRead(short)]);
    for (const left of await onEach("PTTL", resource)) expect(Number(left)).toBeGreaterThan(20_000);
    await long.release();
    await until(
      async () => (await onEach("PTTL", resource)).every((left) => Number(left) <= 20_000),
      5000,
      () => "the marker outlives its readers",
    );
    await short.extend(40_000);
    await until(
      async () => (await onEach("PTTL", resource)).every((left) => Number(left) > 20_000),
      5000,
      () => "the marker does not live as long as its reader",
    );
    await short.release();
    await untilFree(servers, resource);
  });

  test("ends with the ttl of readers that have died", async () => {
    const resource = fresh();
    const dead = await another().acquire(resource, 300, READ);
    expect(dead.valid).toBe(true);
    const writer = await redlock.acquire(resource, TTL_MS, { acquireTimeout: 20_000 });
    expect(dead.valid).toBe(false);
    await writer.release();
  });

  test("is put back by an extension on a node that lost it", async () => {
    const resource = fresh();
    const reader = await redlock.acquire(resource, TTL_MS, READ);
    await untilRead(reader);
    await ask(defined(servers[0]).port, ["DEL", resource]);
    await reader.extend(TTL_MS);
    await untilRead(reader);
    expect(await valuesOn(servers, resource)).toEqual(["shared", "shared", "shared"]);
    await reader.release();
    await untilFree(servers, resource);
  });

  test("is not put back for a reader whose nodes gave the key to another lock", async () => {
    const resource = fresh();
    const reader = await redlock.acquire(resource, TTL_MS, READ);
    await untilRead(reader);
    await onEach("DEL", resource);
    const writer = await another().acquire(resource, TTL_MS);
    await untilHeld(servers, writer);
    const error = await rejection(reader.extend(TTL_MS));
    expect(error.reason).toBe("expired");
    expect(reader.valid).toBe(false);
    expect(await valuesOn(servers, resource)).toEqual(Array(3).fill(writer.value));
    await writer.release();
  });
});

describe("the queue of readers and writers", () => {
  test("stops later readers behind a writer that waits, and then lets them in together", async () => {
    const resource = fresh();
    const order: string[] = [];
    const first = await redlock.acquire(resource, TTL_MS, READ);
    await untilRead(first);
    const writing = another()
      .acquire(resource, TTL_MS, { retryCount: -1 })
      .then((lock) => {
        order.push("writer");
        return lock;
      });
    await untilWaiting(redlock, resource, 1);
    expect(await redlock.tryAcquire(resource, TTL_MS, READ)).toBeNull();
    const late = await rejection(redlock.acquire(resource, TTL_MS, { ...READ, acquireTimeout: 0 }));
    expect(late.message).toContain("somebody without shared has waited for it longer");
    const reading = [redlock, another(), another()].map(async (each, index) => {
      const lock = await each.acquire(resource, TTL_MS, { ...READ, retryCount: -1 });
      order.push(`reader ${index}`);
      return lock;
    });
    await untilWaiting(redlock, resource, 4);
    await first.release();
    const writer = await writing;
    expect(order).toEqual(["writer"]);
    await writer.release();
    const readers = await Promise.all(reading);
    expect(readers.every(({ valid }) => valid)).toBe(true);
    await Promise.all(readers.map((reader) => reader.release()));
    await untilFree(servers, resource);
  });

  test("passes a writer's lock on to all the readers of one process at once", async () => {
    const resource = fresh();
    const writer = await another().acquire(resource, TTL_MS);
    await untilHeld(servers, writer);
    const reading = Array.from({ length: 40 }, () =>
      redlock.acquire(resource, TTL_MS, { ...READ, retryCount: -1 }),
    );
    await untilWaiting(redlock, resource, 40);
    await writer.release();
    const readers = await Promise.all(reading);
    expect(readers.every(({ valid }) => valid)).toBe(true);
    await Promise.all(readers.map((reader) => reader.release()));
    await untilFree(servers, resource);
  });

  test("lets nobody starve among readers that come all the time", async () => {
    const resource = fresh();
    const reader = another();
    const turns = { reads: 0, isOver: false };
    const readers = [reader, reader, another(), redlock].map(async (each) => {
      while (!turns.isOver) {
        await each.using(resource, TTL_MS, { ...READ, retryCount: -1 }, () => {
          turns.reads += 1;
        });
      }
    });
    try {
      await until(
        () => turns.reads > 20,
        20_000,
        () => "nobody reads",
      );
      const writer = another();
      for (let turn = 0; turn < 5; turn++) {
        const lock = await writer.acquire(resource, TTL_MS, { acquireTimeout: 20_000 });
        const { reads } = turns;
        await lock.extend(TTL_MS);
        expect(turns.reads).toBe(reads);
        await lock.release();
      }
    } finally {
      turns.isOver = true;
      await Promise.all(readers);
    }
  });
});

describe("a reader's lock", () => {
  test("is extended by using, and its function's value returned", async () => {
    const resource = fresh();
    const settings = { ...READ, automaticExtensionThreshold: TTL_MS - 1000 };
    const seen = await redlock.using(resource, TTL_MS, settings, async (signal, lock) => {
      const { expiration } = lock;
      await until(
        () => lock.expiration > expiration,
        20_000,
        () => "it was not extended",
      );
      return [lock.shared, signal.aborted];
    });
    expect(seen).toEqual([true, false]);
    await untilFree(servers, resource);
  });

  test("is adopted by another process, which extends and releases it", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS, READ);
    await untilRead(lock);
    const json = JSON.parse(JSON.stringify(lock)) as LockJson;
    expect(json).toMatchObject({ shared: true, value: lock.value });
    const adopted = another().adopt(json);
    expect([adopted.shared, adopted.valid]).toEqual([true, false]);
    await adopted.extend(TTL_MS);
    expect(adopted.valid).toBe(true);
    await adopted.release();
    await untilFree(servers, resource);
  });

  test("is inspected, and holder() tells all of them", async () => {
    const resource = fresh();
    const one = await redlock.acquire(resource, TTL_MS, READ);
    const two = await another({ owner: "reader-2" }).acquire(resource, 30_000, READ);
    await Promise.all([untilRead(one), untilRead(two)]);
    const left = expect.any(Number);
    const readers = [
      { value: two.value, owner: "reader-2", remainingMs: left },
      { value: one.value, owner: "reader-1", remainingMs: left },
    ];
    for (const { resources } of await redlock.inspect(resource)) {
      expect(resources).toEqual([
        {
          resource,
          key: resource,
          type: "string",
          value: null,
          remainingMs: left,
          shared: true,
          readers,
          waiters: [],
        },
      ]);
    }
    expect(await redlock.holder(resource)).toEqual({
      owner: "reader-1",
      value: one.value,
      remainingMs: left,
      shared: true,
      readers: readers.toReversed(),
      waiters: 0,
    });
    const ended = await redlock.forceRelease(resource);
    expect(ended.map(({ owner, nodes }) => [owner, nodes.length])).toEqual([
      ["reader-2", 3],
      ["reader-1", 3],
    ]);
    await untilFree(servers, resource);
    expect(await redlock.holder(resource)).toBeNull();
    await expect(one.extend(TTL_MS)).rejects.toMatchObject({ reason: "expired" });
  });

  test("is refused together with fencing, and on a key without a slot of its own, before anything is sent", async () => {
    for (const client of clients) client.sent = [];
    await expect(redlock.acquire("r", TTL_MS, { ...READ, fencing: true })).rejects.toThrow(
      /shared and fencing/,
    );
    await expect(redlock.acquire("a}b", TTL_MS, READ)).rejects.toThrow(
      /cannot let several hold the key a}b/,
    );
    await expect(redlock.using("r", TTL_MS, { shared: 1 as never }, () => 1)).rejects.toThrow(
      /shared of using\(\) must be true or false/,
    );
    expect(() => new Redlock(memoryNodes(3), { shared: true, fencing: true })).toThrow(TypeError);
    const lock = await redlock.acquire(fresh(), TTL_MS);
    const json = { ...lock.toJSON(), shared: true as const, fence: 7 };
    expect(() => redlock.adopt(json)).toThrow(/shared: true for a reader, which has no fence/);
    await lock.release();
  });

  test("needs no rights beyond those that are documented", async () => {
    await Promise.all(
      servers.map(({ port }) =>
        ask(port, ["ACL", "SETUSER", "reads", "on", ">secret", ...documentedRights]),
      ),
    );
    const limited = another({}, ({ port }) => `redis://reads:secret@127.0.0.1:${port}`);
    const resource = `lock:${fresh()}`;
    const errors: Error[] = [];
    const reader = await limited.acquire(resource, TTL_MS, READ);
    await untilRead(reader);
    const writing = limited.acquire(resource, TTL_MS, { retryCount: -1 });
    await untilWaiting(redlock, resource, 1);
    limited.on("error", (error) => {
      if (/NOPERM|permission/.test(error.message)) errors.push(error);
    });
    await reader.extend(TTL_MS);
    const reading = limited.acquire(resource, TTL_MS, { ...READ, retryCount: -1 });
    await untilWaiting(redlock, resource, 2);
    await reader.release();
    await (await writing).release();
    await (await reading).release();
    expect(errors).toEqual([]);
    await limited.forceRelease(resource);
    expect(await limited.holder(resource)).toBeNull();
  });
});

test("operations of readers and writers that are issued together go as one command to each node", async () => {
  const [one, two, three] = [fresh(), fresh(), fresh()];
  const warm = await Promise.all([
    redlock.acquire(fresh(), TTL_MS, READ),
    redlock.acquire(fresh(), TTL_MS),
  ]);
  await Promise.all(warm.map((lock) => lock.release()));
  for (const client of clients) client.sent = [];
  const locks = await Promise.all([
    redlock.acquire(one, TTL_MS, READ),
    redlock.acquire(one, TTL_MS, READ),
    redlock.acquire(two, TTL_MS),
    redlock.acquire(three, TTL_MS, READ),
  ]);
  await until(
    () => clients.every(({ sent }) => sent.length >= 1),
    5000,
    () => "a node was not asked",
  );
  for (const { sent } of clients) expect(sent).toHaveLength(1);
  await Promise.all(locks.map((lock) => lock.release()));
  for (const resource of [one, two, three]) await untilFree(servers, resource);
});

test("readers share locks on a Redis Cluster, where the set of readers lies in the lock's slot", async () => {
  const cluster = await startRedisCluster();
  const { Cluster } = await import("ioredis");
  const client = new Cluster(cluster.servers.map(({ port }) => ({ host: "127.0.0.1", port })));
  try {
    const own = new Redlock([client], { nodeTimeout: PATIENT_MS });
    const [plain, tagged] = [fresh(), `{${fresh()}}:items`];
    for (const resource of [plain, tagged]) {
      const one = await own.acquire(resource, TTL_MS, READ);
      const two = await own.acquire(resource, TTL_MS, READ);
      expect(await own.tryAcquire(resource, TTL_MS)).toBeNull();
      expect((await own.holder(resource))?.readers).toHaveLength(2);
      await one.extend(TTL_MS);
      const writing = own.acquire(resource, TTL_MS, { acquireTimeout: 20_000 });
      await one.release();
      await two.release();
      await (await writing).release();
    }
  } finally {
    client.disconnect();
    await cluster.stop();
  }
});

test("readers share locks on nodes in memory", async () => {
  const nodes = memoryNodes(5);
  const [one, two] = [new Redlock(nodes), new Redlock(nodes)];
  const readers = [await one.acquire("r", TTL_MS, READ), await two.acquire("r", TTL_MS, READ)];
  const order: string[] = [];
  const writing = two.using("r", TTL_MS, () => order.push("writer"));
  await until(
    async () => ((await one.holder("r"))?.waiters ?? 0) > 0,
    5000,
    () => "nobody waits",
  );
  const reading = one.using("r", TTL_MS, READ, () => order.push("reader"));
  for (const lock of readers) await lock.release();
  await Promise.all([writing, reading]);
  expect(order).toEqual(["writer", "reader"]);
  await Promise.all([one.quit(), two.quit()]);
});
