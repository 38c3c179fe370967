import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Cluster } from "ioredis";
import { Cluster as Cluster5 } from "ioredis-5";
import {
  ask,
  type RedisCluster,
  startRedisCluster,
  startServers,
  stopAll,
  until,
} from "../support/servers.js";
import { type Lock, Redlock } from "../../src/index.js";
import { connectAll, defined, disconnectAll, fresh, rejection } from "../support/nodes.js";

/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;

let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await startRedisCluster();
});

afterAll(async () => {
  await cluster.stop();
});

async function slotOf(key: string): Promise<number> {
  return Number(await ask(defined(cluster.servers[0]).port, ["CLUSTER", "KEYSLOT", key]));
}

/** The master that serves a key: each has a third of the 16384 slots. */
async function masterOf(key: string): Promise<number> {
  return Math.floor((await slotOf(key)) / (16_384 / 3));
}

/** A name that no other test uses, for each master one that this master serves. */
async function freshOnEachMaster(): Promise<string[]> {
  const names = new Map<number, string>();
  while (names.size < 3) {
    const name = fresh();
    names.set(await masterOf(name), name);
  }
  return [...names.values()];
}

interface ClusterOptions {
  readonly keyPrefix?: string;
  readonly enableAutoPipelining?: boolean;
}

const versions: { version: string; connect: (options?: ClusterOptions) => Cluster | Cluster5 }[] = [
  { version: "6", connect: (options = {}) => new Cluster(seeds(), options) },
  { version: "5", connect: (options = {}) => new Cluster5(seeds(), options) },
];

function seeds(): { host: string; port: number }[] {
  return cluster.servers.map(({ port }) => ({ host: "127.0.0.1", port }));
}

describe.each(versions)("a Redis Cluster by a client of ioredis $version", ({ connect }) => {
  let client: Cluster | Cluster5;
  let redlock: Redlock;

  beforeAll(() => {
    client = connect();
    redlock = new Redlock([client], { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 });
  });

  afterAll(() => {
    client.disconnect();
  });

  async function untilGone(...keys: string[]): Promise<void> {
    for (const key of keys) {
      await until(
        async () => (await client.exists(key)) === 0,
        5000,
        () => `${key} is still there`,
      );
    }
  }

  test("gives a lock to the first who asks, while it still connects", async () => {
    const connecting = connect();
    const early = new Redlock([connecting], { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 });
    expect(connecting.status).not.toBe("ready");
    const lock = await early.acquire(fresh(), 60_000);
    expect(lock.valid).toBe(true);
    await lock.release();
    await early.quit();
    await until(
      () => connecting.status === "end",
      5000,
      () => connecting.status,
    );
  });

  test("gives locks on several masters in one turn with enableAutoPipelining, and with a keyPrefix", async () => {
    for (const keyPrefix of ["", "app:"]) {
      const pipelining = connect({ keyPrefix, enableAutoPipelining: true });
      const own = new Redlock([pipelining], { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 });
      const names = await freshOnEachMaster();
      // With a prefix of the client's, the server finds the token's key in another slot.
      const settings = { fencing: keyPrefix === "" };
      const locks = await Promise.all(names.map((name) => own.acquire(name, 60_000, settings)));
      for (const { value, resources } of locks) {
        expect(await client.get(`${keyPrefix}${defined(resources[0])}`)).toBe(value);
      }
      await Promise.all(locks.map((lock) => lock.release()));
      await own.quit();
    }
  });

  test("is one node that locks, extends and releases on each of its masters", async () => {
    const resources = await freshOnEachMaster();
    const locks: Lock[] = [];
    for (const resource of resources) locks.push(await redlock.acquire(resource, 20_000));

    for (const lock of locks) {
      const key = defined(lock.resources[0]);
      const stats = await defined(lock.attempts[0]);
      expect(stats).toMatchObject({ membershipSize: 1, quorumSize: 1 });
      expect(stats.votesFor.has(client)).toBe(true);
      expect(await client.get(key)).toBe(lock.value);
      expect(await client.pttl(key)).toBeLessThanOrEqual(20_000);
      await lock.extend(600_000);
      expect(await client.pttl(key)).toBeGreaterThan(500_000);
      expect(lock.remaining).toBeGreaterThan(500_000);
      const { attempts } = await lock.release();
      expect((await defined(attempts[0])).votesFor.size).toBe(1);
      expect(await client.exists(key)).toBe(0);
    }
  });

  test("refuses what another holds, and gives it once it is free", async () => {
    const resource = fresh();
    const first = await redlock.acquire(resource, 60_000);
    const error = await rejection(redlock.acquire(resource, 60_000));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toMatch(/cluster 127\.0\.0\.1:\d+ held by another lock/);
    expect(await redlock.tryAcquire(resource, 60_000)).toBeNull();
    await first.release();
    await defined(await redlock.tryAcquire(resource, 60_000)).release();
  });

  test("says that a key holds other data", async () => {
    const resource = fresh();
    await client.rpush(resource, "item");
    const error = await rejection(redlock.acquire(resource, 60_000));
    expect(error.message).toContain("key holds a list");
    await client.del(resource);
  });

  test("is used and extended while the work runs, and free after it", async () => {
    for (const resource of await freshOnEachMaster()) {
      const settings = { automaticExtensionThreshold: 4900 };
      const value = await redlock.using(resource, 5000, settings, async (signal, lock) => {
        const { expiration } = lock;
        await until(
          () => lock.expiration > expiration,
          4000,
          () => "the lock was not extended",
        );
        expect(signal.aborted).toBe(false);
        return client.get(resource).then((held) => held === lock.value);
      });
      expect(value).toBe(true);
      await untilGone(resource);
    }
  });

  test("loses a lock whose key is gone, and says so", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await client.del(resource);
    const error = await rejection(lock.extend(60_000));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toContain("holds this lock no longer");
    expect(lock.valid).toBe(false);
  });

  test("is inspected as one node, under the name of a cluster", async () => {
    for (const resource of await freshOnEachMaster()) {
      const [free] = await redlock.inspect(resource);
      expect(free).toMatchObject({ ok: true, resources: [{ resource, value: null }] });
      const lock = await redlock.acquire(resource, 60_000);
      const nodes = await redlock.inspect(resource);
      expect(nodes).toHaveLength(1);
      expect(defined(nodes[0]).node).toMatch(/^cluster 127\.0\.0\.1:\d+$/);
      expect(nodes[0]).toMatchObject({
        ok: true,
        resources: [{ resource, key: resource, value: lock.value }],
      });
      const [held] = defined(nodes[0]).resources;
      expect(defined(held).remainingMs).toBeGreaterThan(50_000);
      expect(defined(held).remainingMs).toBeLessThanOrEqual(60_000);
      await lock.release();
    }
  });

  test("takes several resources of one hash tag together", async () => {
    for (const tag of await freshOnEachMaster()) {
      const resources = [`{${tag}}:a`, `{${tag}}:b`, `c:{${tag}}`];
      const lock = await redlock.acquire(resources, 60_000);
      for (const key of resources) expect(await client.get(key)).toBe(lock.value);
      await lock.extend(600_000);
      for (const key of resources) expect(await client.pttl(key)).toBeGreaterThan(500_000);
      const [found] = await redlock.inspect(resources);
      expect(defined(found).resources.map(({ value }) => value)).toEqual(
        resources.map(() => lock.value),
      );
      // All or nothing.
      expect(await redlock.tryAcquire([`{${tag}}:d`, `{${tag}}:b`], 60_000)).toBeNull();
      expect(await client.exists(`{${tag}}:d`)).toBe(0);
      await lock.release();
      await untilGone(...resources);
    }
  });

  test("takes several resources together where the key prefix has a hash tag", async () => {
    const prefixed = new Redlock([client], {
      ...{ keyPrefix: "{locks}:", nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 },
    });
    const resources = await freshOnEachMaster();
    const lock = await prefixed.acquire(resources, 60_000);
    await lock.extend(70_000);
    for (const name of resources) expect(await client.get(`{locks}:${name}`)).toBe(lock.value);
    await lock.release();
    await untilGone(...resources.map((name) => `{locks}:${name}`));
  });

  test("refuses resources of several slots with an error that says CROSSSLOT, and leaves nothing", async () => {
    const resources = await freshOnEachMaster();
    const start = performance.now();
    const error = await rejection(redlock.acquire(resources, 60_000));
    expect(performance.now() - start).toBeLessThan(NODE_TIMEOUT_MS);
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toMatch(/cluster 127\.0\.0\.1:\d+ CROSSSLOT/);
    const { votesAgainst } = await defined(error.attempts[0]);
    expect(defined(votesAgainst.get(client)).message).toContain("CROSSSLOT");
    await untilGone(...resources);

    // That is no contention.
    const tried = await rejection(redlock.tryAcquire(resources, 60_000));
    expect(tried.message).toContain("CROSSSLOT");
    const used = redlock.using(resources, 60_000, () => {
      throw new Error("the routine ran");
    });
    expect((await rejection(used)).message).toContain("CROSSSLOT");
    const [found] = await redlock.inspect(resources);
    expect(defined(found)).toMatchObject({ ok: false, resources: [] });
    expect(defined(defined(found).error).message).toContain("CROSSSLOT");
    await untilGone(...resources);
  });

  test("refuses resources of several slots of one master, too", async () => {
    const [a] = await freshOnEachMaster();
    const master = await masterOf(defined(a));
    let b = fresh();
    while ((await masterOf(b)) !== master || (await slotOf(b)) === (await slotOf(defined(a)))) {
      b = fresh();
    }
    const error = await rejection(redlock.acquire([defined(a), b], 60_000));
    expect(error.message).toContain("CROSSSLOT");
    await untilGone(defined(a), b);
  });

  test("still gives locks after it refused some for their slots", async () => {
    await rejection(redlock.acquire(await freshOnEachMaster(), 60_000));
    for (const resource of await freshOnEachMaster()) {
      await (await redlock.acquire(resource, 60_000)).release();
      await untilGone(resource);
    }
  });

  test("keeps the fencing token in the slot of its lock, with a hash tag and without", async () => {
    for (const resource of [...(await freshOnEachMaster()), `{${fresh()}}:items`]) {
      const first = await redlock.acquire(resource, 20_000, { fencing: true });
      await first.extend(20_000);
      await first.release();
      const second = await redlock.acquire(resource, 20_000, { fencing: true });
      expect(second.fence).toBeGreaterThan(defined(first.fence));
      await second.release();
      await untilGone(resource);
    }
  });

  test("refuses a token to an untagged key under the client's own prefix, with an error that says CROSSSLOT", async () => {
    const prefixing = connect({ keyPrefix: "app:" });
    const prefixed = new Redlock([prefixing], { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 });
    const error = await rejection(prefixed.acquire(fresh(), 20_000, { fencing: true }));
    expect(error.message).toContain("CROSSSLOT");
    const tagged = await prefixed.acquire(`{${fresh()}}`, 20_000, { fencing: true });
    await tagged.release();
    await prefixed.quit();
  });

  test("is locked through a client that has a key prefix of its own", async () => {
    const prefixing = connect({ keyPrefix: "app:" });
    const own = new Redlock([prefixing], { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 });
    const tag = fresh();
    const lock = await own.acquire([`{${tag}}:a`, `{${tag}}:b`], 60_000);
    expect(await client.get(`app:{${tag}}:a`)).toBe(lock.value);
    await lock.extend(70_000);
    await lock.release();
    await untilGone(`app:{${tag}}:a`, `app:{${tag}}:b`);
    await own.quit();
  });
});

test("clients of ioredis 5 and 6 exclude each other on one cluster", async () => {
  const settings = { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 };
  const [six, five] = versions.map(({ connect }) => new Redlock([connect()], settings));
  const resource = fresh();
  const lock = await defined(six).acquire(resource, 60_000);
  expect(await defined(five).tryAcquire(resource, 60_000)).toBeNull();
  const [found] = await defined(five).inspect(resource);
  expect(defined(found).resources[0]).toMatchObject({ value: lock.value });
  await lock.release();
  await defined(await defined(five).tryAcquire(resource, 60_000)).release();
  await defined(six).quit();
  await defined(five).quit();
});

test("a cluster votes as one node among others", async () => {
  const servers = await startServers(2);
  const clients = await connectAll(servers);
  const clusterClient = new Cluster(seeds());
  try {
    await clusterClient.ping();
    const mixed = new Redlock([clusterClient, ...clients], {
      ...{ nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 },
    });
    const resource = fresh();
    const lock = await mixed.acquire(resource, 60_000);
    const stats = await defined(lock.attempts[0]);
    expect(stats).toMatchObject({ membershipSize: 3, quorumSize: 2 });
    expect(stats.votesFor.size).toBe(3);
    expect(stats.votesFor.has(clusterClient)).toBe(true);
    await lock.release();

    // Several slots are no obstacle to the majority.
    const resources = await freshOnEachMaster();
    const several = await mixed.acquire(resources, 60_000);
    const { votesFor, votesAgainst } = await defined(several.attempts[0]);
    expect(clients.map((client) => votesFor.has(client))).toEqual([true, true]);
    expect(defined(votesAgainst.get(clusterClient)).message).toContain("CROSSSLOT");
    await several.release();
  } finally {
    clusterClient.disconnect();
    disconnectAll(clients);
    await stopAll(servers);
  }
});
