import { beforeAll, describe, expect, test } from "@jest/globals";
import { ask, type RedisServer, until } from "../support/servers.js";
import { type Lock, Redlock } from "../../src/index.js";
import { movableClocks } from "../support/environment.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  occupy,
  rejection,
  untilFree,
  valuesOn,
} from "../support/nodes.js";
import { startProxy } from "../support/proxy.js";
import { useServersAndClients } from "../support/use-servers.js";

/** Long, so that a busy machine fails no vote. */
const PATIENT = { nodeTimeout: 5000 };

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(async () => {
  redlock = new Redlock(clients, PATIENT);
  // Every node knows the scripts from here on.
  const lock = await redlock.acquire(fresh(), 5000);
  for (let round = 0; round < 3; round++) {
    await lock.extend(5000);
    await Promise.all(lock.attempts);
  }
  await lock.release();
});

/** A lock that every node holds. */
async function acquired(resource: string, ttl: number, by = redlock): Promise<Lock> {
  const lock = await by.acquire(resource, ttl);
  await Promise.all(lock.attempts);
  return lock;
}

function pttl({ port }: RedisServer, key: string): Promise<number> {
  return ask(port, ["PTTL", key]).then(Number);
}

function forget(some: readonly RedisServer[], key: string): Promise<unknown> {
  return Promise.all(some.map(({ port }) => ask(port, ["DEL", key])));
}

describe("an extension", () => {
  test("renews the very same lock, on every node", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 1000);
    const { value } = lock;
    expect(await lock.extend(20_000)).toBe(lock);
    expect(lock.value).toBe(value);
    expect(lock.ttl).toBe(20_000);
    expect(lock.remaining).toBeGreaterThan(15_000);
    expect(lock.expiration).toBeGreaterThan(Date.now() + 15_000);
    for (const server of servers) {
      await until(
        async () => (await pttl(server, resource)) > 15_000,
        5000,
        () => "the key was not extended",
      );
    }
    await lock.release();
  });

  test("by less than what is left shortens neither the lock nor a key", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    await lock.extend(1000);
    expect(lock.remaining).toBeGreaterThan(15_000);
    expect(lock.ttl).toBe(20_000);
    for (const server of servers) expect(await pttl(server, resource)).toBeGreaterThan(15_000);
    await lock.release();
  });

  test("counts only nodes that still hold the value: three that lost it end the lock", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    await forget(servers.slice(0, 3), resource);
    const error = await rejection(lock.extend(20_000));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toContain("holds this lock no longer");
    expect(lock.valid).toBe(false);
    expect(lock.expiration).toBe(0);
    // The nodes that lost it are not given it again: another may hold it.
    expect((await valuesOn(servers.slice(0, 3), resource)).every((value) => value === null)).toBe(
      true,
    );
    await lock.release();
    await untilFree(servers, resource);
  });

  test("never touches a key of somebody else", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    await occupy(servers.slice(0, 3), resource, "other");
    await rejection(lock.extend(30_000));
    expect(await valuesOn(servers.slice(0, 3), resource)).toEqual(Array(3).fill("other"));
    for (const server of servers.slice(0, 3)) expect(await pttl(server, resource)).toBe(-1);
    await lock.release();
  });

  test("gives the key back to a minority that lost it, after a quorum kept it", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    await forget(servers.slice(0, 2), resource);
    await lock.extend(20_000);
    await until(
      async () => (await valuesOn(servers, resource)).every((value) => value === lock.value),
      5000,
      () => "the key was not given back",
    );
    await lock.release();
    await untilFree(servers, resource);
  });

  test("of a lock that is released meanwhile has failed", async () => {
    const lock = await acquired(fresh(), 20_000);
    const extending = rejection(lock.extend(20_000));
    await lock.release();
    const error = await extending;
    expect(error.code).toBe("ERR_REDLOCK_EXPIRED");
    expect(error.message).toContain("was released");
  });

  test("does not give the key back where the lock was released before the last vote", async () => {
    const resource = fresh();
    const proxy = await startProxy(defined(servers[4]).port);
    const [client] = await connectAll([proxy]);
    const slow = new Redlock([...clients.slice(0, 4), defined(client)]);
    const lock = await acquired(resource, 20_000, slow);
    await forget(servers.slice(0, 1), resource);
    proxy.replyDelayMs = 200;
    await slow.extend(lock, 20_000, { nodeTimeout: 10_000 });
    await lock.release();
    proxy.replyDelayMs = 0;
    // The slow node's answer, which ends the round of the extension, is in once this one is.
    await defined(client).ping();
    await untilFree(servers, resource);
    const gifts = defined(clients[0]).sent.filter((line) => line.startsWith(`set ${resource} `));
    expect(gifts).toHaveLength(1);
    disconnectAll([defined(client)]);
    await proxy.close();
  });

  test("that is decided only after the old validity has ended has failed", async () => {
    const proxies = await Promise.all(servers.map(({ port }) => startProxy(port)));
    const slow = new Redlock(proxies.map(({ url }) => url));
    await (await slow.acquire(fresh(), 5000)).release();
    const resource = fresh();
    const clocks = movableClocks();
    const stepped = new Redlock(
      proxies.map(({ url }) => url),
      clocks.settings,
    );
    const lock = await stepped.acquire(resource, 60_000);
    for (const proxy of proxies) proxy.replyDelayMs = 300;
    const extending = rejection(
      stepped.extend(lock, 60_000, { nodeTimeout: 10_000, retryCount: 0 }),
    );
    clocks.monotonicStepMs = 59_500;
    const error = await extending;
    expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
    expect(lock.valid).toBe(false);
    for (const proxy of proxies) proxy.replyDelayMs = 0;
    await Promise.all([slow.quit(), stepped.quit()]);
    await Promise.all(proxies.map((proxy) => proxy.close()));
  });

  test("of an expired or a released lock is refused before anything is sent", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    const resource = fresh();
    const lock = await acquired(resource, 10_000, stepped);
    clocks.wallStepMs = 9900;
    const sent = defined(clients[0]).sent.length;
    const error = await rejection(lock.extend(5000));
    expect(error.code).toBe("ERR_REDLOCK_EXPIRED");
    expect(error.message).toMatch(/^Cannot extend an already-expired lock\./);
    expect(defined(clients[0]).sent).toHaveLength(sent);

    const released = await acquired(fresh(), 10_000);
    await released.release();
    expect((await rejection(released.extend(5000))).message).toContain("was released");
    await lock.release();
  });

  test("that fails leaves the old validity as it was", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    for (const server of servers.slice(0, 3)) await server.freeze();
    const error = await rejection(
      redlock.extend(lock, 40_000, { retryCount: 1, retryDelay: 10, nodeTimeout: 100 }),
    );
    for (const server of servers.slice(0, 3)) server.thaw();
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(lock.valid).toBe(true);
    expect(lock.remaining).toBeLessThan(20_000);
    expect(lock.ttl).toBe(20_000);
    await until(
      async () => (await lock.extend(20_000).catch(() => undefined)) === lock,
      5000,
      () => "the lock could not be extended after the nodes were back",
    );
    await lock.release();
    await untilFree(servers, resource);
  });
});

describe("a release", () => {
  test("frees every node, and is done once", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    const { attempts, start } = await lock.release();
    expect(attempts).toHaveLength(1);
    expect(start).toBeLessThanOrEqual(Date.now());
    await untilFree(servers, resource);
    expect(lock.valid).toBe(false);
    expect(lock.expiration).toBe(0);
    expect((await lock.release()).attempts).toHaveLength(0);
  });

  test("leaves a key that is another's", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    await occupy(servers, resource, "other");
    await lock.release();
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill("other"));
  });

  test("of an expired lock resolves at once, and still frees what is left", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    const resource = fresh();
    const lock = await acquired(resource, 60_000, stepped);
    clocks.wallStepMs = 60_000;
    expect(lock.valid).toBe(false);
    expect((await lock.release()).attempts).toHaveLength(0);
    await untilFree(servers, resource);
  });

  test("that no quorum answers is retried, and then says which nodes were silent", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 60_000);
    for (const server of servers.slice(0, 3)) await server.freeze();
    const error = await rejection(
      redlock.release(lock, { retryCount: 2, retryDelay: 10, retryJitter: 0, nodeTimeout: 100 }),
    );
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toContain("3 attempts");
    expect(error.message).toContain(`127.0.0.1:${defined(servers[0]).port} no answer`);
    expect(lock.valid).toBe(false);
    await untilFree(servers.slice(3), resource);
    for (const server of servers.slice(0, 3)) server.thaw();
    await untilFree(servers, resource);
  });

  test("is retried no longer than the lock's ttl", async () => {
    const lock = await acquired(fresh(), 600);
    for (const server of servers.slice(0, 3)) await server.freeze();
    const start = performance.now();
    const settings = { retryCount: -1, retryDelay: 100, retryJitter: 0, nodeTimeout: 50 };
    const error = await rejection(redlock.release(lock, settings));
    for (const server of servers.slice(0, 3)) server.thaw();
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(performance.now() - start).toBeLessThan(600 + 2000);
  });

  test("ends the block of an `await using` declaration", async () => {
    const resource = fresh();
    const lock = await acquired(resource, 20_000);
    await lock[Symbol.asyncDispose]();
    await untilFree(servers, resource);
  });
});

describe("a process's first lock, taken while its connections open", () => {
  test("is soon held by every node, so that it survives the loss of any one", async () => {
    for (const slow of servers) {
      const proxy = await startProxy(slow.port);
      // Its replies, and so its connection, come behind the others' decision.
      proxy.replyDelayMs = 100;
      const others = servers.filter((server) => server !== slow);
      const urls = others.map(({ port }) => `redis://127.0.0.1:${port}`);
      const first = new Redlock([...urls, proxy.url]);
      const resource = fresh();
      const lock = await first.acquire(resource, 20_000);
      await until(
        async () => (await valuesOn(servers, resource)).every((value) => value === lock.value),
        5000,
        () => `not every node holds ${resource}`,
      );
      proxy.replyDelayMs = 0;
      const frozen = defined(others[0]);
      await frozen.freeze();
      await first.extend(lock, 20_000, { retryCount: 0 });
      frozen.thaw();
      await lock.release();
      await untilFree(servers, resource);
      await first.quit();
      await proxy.close();
    }
  });
});
