import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { ExecutionError, type LockLostError, Redlock } from "../../src/index.js";
import { joinAbsent, untilWaiting } from "../support/line.js";
import {
  defined,
  fresh,
  occupy,
  rejection,
  untilFree,
  untilHeld,
  valuesOn,
} from "../support/nodes.js";
import { documentedRights } from "../support/rights.js";
import { ask, startRedisCluster, type RedisCluster, until } from "../support/servers.js";
import { useOthers, useServers, useServersAndClients } from "../support/use-servers.js";

/** Long, so that a busy machine fails no vote. */
const PATIENT_MS = 5000;
const TTL_MS = 60_000;
const OWNER = "api-7/4211";

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients, { nodeTimeout: PATIENT_MS });
});

/** Another Redlock of the same nodes, with connections of its own, as another process has it. */
const another = useOthers(servers, { nodeTimeout: PATIENT_MS });

function names(): string[] {
  return servers.map(({ port }) => `127.0.0.1:${port}`);
}

describe("forceRelease", () => {
  test("ends a lock on every node, and says whose it was", async () => {
    const resource = fresh();
    const lock = await another({ owner: OWNER }).acquire(resource, TTL_MS);
    await untilHeld(servers, lock);
    expect(await redlock.forceRelease(resource)).toEqual([
      { resource, owner: OWNER, value: lock.value, nodes: names() },
    ]);
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(null));
    const next = await redlock.acquire(resource, TTL_MS, { retryCount: 0 });
    await next.release();
  });

  test("is told to a live holder at its next extension, before the validity ends", async () => {
    const resource = fresh();
    const holder = another();
    const lost: unknown[] = [];
    holder.on("lost", (event) => lost.push(event));
    const lock = await holder.acquire(resource, 6000, { autoExtend: true });
    await untilHeld(servers, lock);
    const { signal } = lock;
    let leftMs = NaN;
    const end = performance.now() + lock.remaining;
    signal.addEventListener("abort", () => {
      leftMs = end - performance.now();
    });
    await redlock.forceRelease(resource);
    expect(signal.aborted).toBe(false);
    await until(
      () => signal.aborted,
      20_000,
      () => "the holder has not learned of it",
    );
    expect(leftMs).toBeGreaterThan(0);
    const { message } = signal.reason as LockLostError;
    expect(message).toContain(resource);
    expect(message).toContain("holds this lock no longer");
    expect(lost).toEqual([{ lock, error: signal.reason as unknown, isPassedOn: false }]);
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(null));
  });

  test("makes an extension by the holder reject, and its release touch nobody else's lock", async () => {
    const resource = fresh();
    const lock = await another().acquire(resource, TTL_MS);
    await untilHeld(servers, lock);
    await redlock.forceRelease(resource);
    const next = await redlock.acquire(resource, TTL_MS);
    await untilHeld(servers, next);
    const error = await rejection(lock.extend(TTL_MS));
    expect(error).toMatchObject({ code: "ERR_REDLOCK_QUORUM", reason: "expired" });
    expect(lock.valid).toBe(false);
    await lock.release();
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(next.value));
    await next.release();
  });

  test("hands over to the waiter at once, long before it would poll", async () => {
    const resource = fresh();
    const lock = await another().acquire(resource, TTL_MS);
    const settings = { retryCount: -1, retryDelay: 40_000, retryJitter: 0 };
    // Before: the next one's first attempt could reach a node that the lock is still on its way to.
    await untilHeld(servers, lock);
    const waiting = another({ owner: "next" }).acquire(resource, TTL_MS, settings);
    await untilWaiting(redlock, resource, 1);
    const start = performance.now();
    const [ended] = await redlock.forceRelease(resource);
    const next = await waiting;
    expect(performance.now() - start).toBeLessThan(40_000);
    expect(ended).toMatchObject({ value: lock.value });
    expect(await redlock.holder(resource)).toMatchObject({ owner: "next", value: next.value });
    await next.release();
  });

  test("leaves a reservation to the waiter that it is for", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await untilHeld(servers, lock);
    await joinAbsent(servers, resource, "absent");
    await Promise.all((await lock.release()).attempts);
    expect(await redlock.forceRelease(resource)).toEqual([]);
    for (const { resources } of await redlock.inspect(resource)) {
      expect(resources[0]).toMatchObject({ reservedFor: "absent" });
    }
  });

  test("deletes no key of another type, but the strings beside it", async () => {
    const resource = fresh();
    for (const { port } of servers.slice(0, 2)) await ask(port, ["RPUSH", resource, "item"]);
    await occupy(servers.slice(2), resource, "somebody else's");
    expect(await redlock.forceRelease(resource)).toEqual([
      { resource, owner: undefined, value: "somebody else's", nodes: names().slice(2) },
    ]);
    const types = await Promise.all(servers.map(({ port }) => ask(port, ["TYPE", resource])));
    expect(types).toEqual(["list", "list", "none", "none", "none"]);
  });

  test("ends different locks of different nodes and resources", async () => {
    const [a, b, free] = [fresh(), fresh(), fresh()];
    await occupy(servers.slice(0, 2), a, "one");
    await occupy(servers.slice(2), a, "two");
    const lock = await another({ owner: OWNER }).acquire([b], TTL_MS);
    await untilHeld(servers, lock);
    expect(await redlock.forceRelease([a, free, b, a])).toEqual([
      { resource: a, owner: undefined, value: "one", nodes: names().slice(0, 2) },
      { resource: a, owner: undefined, value: "two", nodes: names().slice(2) },
      { resource: b, owner: OWNER, value: lock.value, nodes: names() },
    ]);
    await untilFree(servers, a);
    expect(await redlock.forceRelease([a, free, b])).toEqual([]);
  });

  test("keeps the fencing tokens growing", async () => {
    const resource = fresh();
    const first = await another().acquire(resource, TTL_MS, { fencing: true });
    await untilHeld(servers, first);
    await redlock.forceRelease(resource);
    const second = await redlock.acquire(resource, TTL_MS, { fencing: true });
    expect(defined(second.fence)).toBeGreaterThan(defined(first.fence));
    await second.release();
  });

  test.each([[undefined], [[]], [""], [7]])("refuses %p", async (wrong) => {
    const error = await rejection(redlock.forceRelease(wrong as unknown as string));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain("forceRelease()");
  });

  test("rejects once the Redlock is closed", async () => {
    const closed = another();
    await closed.quit();
    const error = await rejection(closed.forceRelease(fresh()));
    expect(error).toMatchObject({ code: "ERR_REDLOCK_CLOSED", reason: "closed" });
  });
});

describe("forceRelease with nodes in trouble", () => {
  const { servers: troubled, clients: theirs } = useServersAndClients(5);

  test("ends the lock on a majority; without one, it rejects and says on which nodes not", async () => {
    const [resource, other] = [fresh(), fresh()];
    const patient = new Redlock(theirs, { nodeTimeout: PATIENT_MS });
    for (const name of [resource, other]) {
      await untilHeld(troubled, await patient.acquire(name, TTL_MS));
    }
    await defined(troubled[0]).kill();
    await defined(troubled[1]).freeze();
    try {
      const [ended] = await patient.forceRelease(resource);
      expect(ended?.nodes).toEqual(troubled.slice(2).map(({ port }) => `127.0.0.1:${port}`));
      await defined(troubled[2]).freeze();
      const impatient = new Redlock(theirs, { nodeTimeout: 500 });
      const error = await rejection(impatient.forceRelease(other));
      expect(error).toBeInstanceOf(ExecutionError);
      expect(error).toMatchObject({
        code: "ERR_REDLOCK_QUORUM",
        reason: "unavailable",
        resources: [other],
      });
      expect(error.message).toContain(`The locks on ${other} were ended on 2 of 5 nodes, 3 needed`);
      const ofPermits = await rejection(impatient.forceRelease(other, { permits: 3 }));
      expect(ofPermits).toMatchObject({ resources: [other] });
      expect(ofPermits.message).toContain(`The locks on ${other} were ended`);
      for (const { port } of troubled.slice(0, 3)) {
        expect(error.message).toContain(`127.0.0.1:${port}`);
      }
    } finally {
      for (const server of troubled.slice(1, 3)) server.thaw();
    }
  });
});

describe("with the least rights of docs/operations.md", () => {
  let limited: Redlock;
  const theirs = useServers(3, { beforeStop: () => limited.quit() });

  beforeEach(async () => {
    const command = ["ACL", "SETUSER", "limited", "on", ">secret", ...documentedRights];
    await Promise.all(theirs.map(({ port }) => ask(port, command)));
    limited = new Redlock(
      theirs.map(({ port }) => `redis://limited:secret@127.0.0.1:${port}`),
      { nodeTimeout: PATIENT_MS, owner: OWNER },
    );
  });

  test("holder and forceRelease work, with a waiter and a fencing token", async () => {
    const resource = "lock:a";
    const lock = await limited.acquire(resource, TTL_MS, { fencing: true });
    await untilHeld(theirs, lock);
    await joinAbsent(theirs, resource, "absent", { channel: "redlock:absent" });
    expect(await limited.holder(resource)).toMatchObject({
      ...{ owner: OWNER, fence: lock.fence, waiters: 1 },
    });
    const [ended] = await limited.forceRelease(resource);
    expect(ended).toMatchObject({ owner: OWNER, value: lock.value });
    expect(ended?.nodes).toHaveLength(3);
  });
});

describe("with a Redis Cluster as a node", () => {
  let cluster: RedisCluster | undefined;
  const singles = useServers(2, { beforeStop: () => cluster?.stop() });

  test("holder and forceRelease work", async () => {
    cluster = await startRedisCluster();
    const { Cluster } = await import("ioredis");
    const node = new Cluster(cluster.servers.map(({ port }) => ({ port, host: "127.0.0.1" })));
    const mixed = new Redlock([node, ...singles.map(({ url }) => url)], {
      nodeTimeout: PATIENT_MS,
      owner: OWNER,
    });
    try {
      const resource = fresh();
      const lock = await mixed.acquire(resource, TTL_MS, { acquireTimeout: 20_000 });
      await until(
        async () =>
          (await mixed.inspect(resource)).every(
            ({ resources }) => resources[0]?.value === lock.value,
          ),
        10_000,
        () => "not every node holds the lock",
      );
      expect(await mixed.holder(resource)).toMatchObject({ owner: OWNER, value: lock.value });
      const [ended] = await mixed.forceRelease(resource);
      expect(ended?.nodes).toHaveLength(3);
      expect(await mixed.holder(resource)).toBeNull();
    } finally {
      await mixed.quit();
    }
  });
});
