import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { ask, until } from "../support/servers.js";
import { ExecutionError, Redlock, ResourceLockedError } from "../../src/index.js";
import { movableClocks } from "../support/environment.js";
import { cacheQueueScripts } from "../support/line.js";
import {
  defined,
  fresh,
  occupy,
  rejection,
  untilFree,
  untilHeld,
  valuesOn,
  valuesAskedFor,
} from "../support/nodes.js";
import { type Proxy, startProxy } from "../support/proxy.js";
import { useServersAndClients } from "../support/use-servers.js";

/** Long, so that a busy machine fails no vote. */
const PATIENT = { nodeTimeout: 5000 };

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(async () => {
  // A node that does not know a script when the others have decided abstains, this once.
  await cacheQueueScripts(servers);
  redlock = new Redlock(clients, PATIENT);
});

describe("a free resource", () => {
  test("is locked under the lock's value on every node, for the ttl", async () => {
    const resource = fresh();
    const lock = await redlock.acquire([resource], 10_000);
    await Promise.all(lock.attempts);

    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(lock.value));
    for (const { port } of servers) {
      const pttl = Number(await ask(port, ["PTTL", resource]));
      expect(pttl).toBeGreaterThan(lock.remaining);
      expect(pttl).toBeLessThanOrEqual(10_000);
    }
    expect(lock.value).toMatch(/^[0-9a-f]{32} \S+\/\d+$/);
    expect(lock.resources).toEqual([resource]);
    expect(lock.valid).toBe(true);
    await lock.release();
  });

  test("gives a validity of the ttl less 1 %, 2 ms and the time it took", async () => {
    const before = Date.now();
    const lock = await redlock.acquire(fresh(), 10_000);
    expect(lock.expiration).toBeGreaterThanOrEqual(before + 10_000 - 102);
    expect(lock.expiration).toBeLessThanOrEqual(Date.now() + 10_000 - 102);
    expect(lock.remaining).toBeLessThanOrEqual(10_000 - 102);
    await lock.release();
  });

  test("takes several resources together, under one value", async () => {
    const [a, b] = [fresh(), fresh()];
    // A node that does not know the script when the others have decided abstains. It knows the script when it holds the lock.
    await untilHeld(servers, await redlock.acquire([fresh(), fresh()], 60_000));
    const lock = await redlock.acquire([a, b, a], 5000);
    await Promise.all(lock.attempts);
    expect(lock.resources).toEqual([a, b]);
    expect(await valuesOn(servers, a)).toEqual(Array(5).fill(lock.value));
    expect(await valuesOn(servers, b)).toEqual(Array(5).fill(lock.value));
    await lock.release();
    await untilFree(servers, a);
    await untilFree(servers, b);
  });

  test("puts the key prefix before each name", async () => {
    const resource = fresh();
    const prefixed = new Redlock(clients, { keyPrefix: "locks:" });
    const lock = await prefixed.acquire(resource, 5000);
    await Promise.all(lock.attempts);
    expect(await valuesOn(servers, `locks:${resource}`)).toEqual(Array(5).fill(lock.value));
    expect(lock.toJSON().keyPrefix).toBe("locks:");
    await lock.release();
    await untilFree(servers, `locks:${resource}`);
  });

  test("is taken by a client that has a key prefix of its own", async () => {
    const resource = fresh();
    const [server] = servers;
    const own = new Redis({ port: defined(server).port, keyPrefix: "app:" });
    const prefixed = new Redlock([own], PATIENT);
    const lock = await prefixed.acquire([resource, `${resource}-2`], 5000);
    expect(await ask(defined(server).port, ["GET", `app:${resource}`])).toBe(lock.value);
    await lock.extend(6000);
    await lock.release();
    expect(await ask(defined(server).port, ["EXISTS", `app:${resource}`])).toBe("0");
    own.disconnect();
  });
});

describe("a quorum", () => {
  test("of three of five is enough", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 2), resource);
    const lock = await redlock.acquire(resource, 5000, { retryCount: 0 });
    const stats = await defined(lock.attempts[0]);
    expect(stats).toMatchObject({ membershipSize: 5, quorumSize: 3 });
    expect([...stats.votesFor]).toEqual(clients.slice(2));
    expect([...stats.votesAgainst.keys()]).toEqual(clients.slice(0, 2));
    await lock.release();
    await until(
      async () =>
        (await valuesOn(servers, resource)).filter((value) => value !== null).length === 2,
      5000,
      () => "somebody else's keys must stay, and only they",
    );
  });

  test("of two of five is not, and leaves nothing behind", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 3), resource, "other");
    const error = await rejection(redlock.acquire(resource, 5000, { retryCount: 0 }));
    expect(error).toBeInstanceOf(ExecutionError);
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    await untilFree(servers.slice(3), resource);
    expect(await valuesOn(servers.slice(0, 3), resource)).toEqual(Array(3).fill("other"));
  });

  test("of two of four is not", async () => {
    const resource = fresh();
    const four = new Redlock(clients.slice(0, 4));
    await occupy(servers.slice(0, 2), resource);
    const error = await rejection(four.acquire(resource, 5000, { retryCount: 0 }));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    await untilFree(servers.slice(2, 4), resource);
  });

  test("needs all or nothing of several resources on each node", async () => {
    const [a, b] = [fresh(), fresh()];
    await occupy(servers.slice(0, 3), b, "other");
    await rejection(redlock.acquire([a, b], 5000, { retryCount: 0 }));
    await untilFree(servers, a);
    expect(await valuesOn(servers.slice(0, 3), b)).toEqual(Array(3).fill("other"));
  });
});

describe("a held resource", () => {
  test("is waited for, and then taken", async () => {
    const resource = fresh();
    const first = await redlock.acquire(resource, 60_000);
    const second = redlock.acquire(resource, 5000, {
      retryCount: -1,
      retryDelay: 20,
      retryJitter: 10,
    });
    await until(
      () => valuesAskedFor(clients[0], resource).length > 3,
      5000,
      () => "no retry was seen",
    );
    await first.release();
    const lock = await second;
    expect(lock.valid).toBe(true);
    expect(lock.attempts.length).toBeGreaterThan(2);
    await lock.release();
  });

  test("is tried with a value of its own each time", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    await rejection(
      redlock.acquire(resource, 5000, { retryCount: 2, retryDelay: 5, retryJitter: 0 }),
    );
    const values = valuesAskedFor(clients[0], resource);
    expect(values).toHaveLength(3);
    expect(new Set(values).size).toBe(3);
  });

  test("is refused after the first attempt and ten more, with the votes of each", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const error = await rejection(
      redlock.acquire(resource, 5000, { retryDelay: 1, retryJitter: 0 }),
    );
    expect(error.message).toMatch(
      /^The operation was unable to achieve a quorum during its retry window\. \S+ is held by another lock without an expiry\. 11 attempts in .* the last had 0 of 5 votes, 3 needed: 127\.0\.0\.1:\d+ held by another lock/,
    );
    const { attempts } = error;
    expect(attempts).toHaveLength(11);
    for (const { votesAgainst } of await Promise.all(attempts)) {
      expect(votesAgainst.size).toBe(5);
      for (const vote of votesAgainst.values()) {
        expect(vote).toBeInstanceOf(ResourceLockedError);
        expect(vote.message).toBe("The operation was applied to: 0 of the 1 requested resources.");
      }
    }
  });

  test("keeps the statistics of the last hundred attempts", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const error = await rejection(
      redlock.acquire(resource, 5000, { retryCount: 119, retryDelay: 0, retryJitter: 0 }),
    );
    expect(error.message).toContain("120 attempts");
    expect(error.attempts).toHaveLength(100);
  });

  test("is named as other data where the key holds no lock", async () => {
    const resource = fresh();
    await Promise.all(servers.map(({ port }) => ask(port, ["RPUSH", resource, "x"])));
    const error = await rejection(redlock.acquire(resource, 5000, { retryCount: 0 }));
    expect(error.message).toContain("key holds a list");
    const several = await rejection(redlock.acquire([fresh(), resource], 5000, { retryCount: 0 }));
    expect(several.message).toContain(`key holds a list (${resource})`);
  });
});

describe("tryAcquire", () => {
  test("gives the lock, and null where another holds it, after one attempt", async () => {
    const resource = fresh();
    const lock = defined(await redlock.tryAcquire(resource, 5000));
    expect(await redlock.tryAcquire(resource, 5000)).toBeNull();
    expect(
      defined(clients[0]).sent.filter((line) => line.startsWith(`set ${resource}`)),
    ).toHaveLength(2);
    await lock.release();
    await defined(await redlock.tryAcquire(resource, 5000)).release();
  });

  test("gives null for a split vote, which is contention too", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 3), resource);
    expect(await redlock.tryAcquire(resource, 5000)).toBeNull();
    await untilFree(servers.slice(3), resource);
  });
});

describe("waiting", () => {
  test("ends with acquireTimeout, whatever retryCount says", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const start = performance.now();
    const error = await rejection(
      redlock.acquire(resource, 5000, { acquireTimeout: 300, retryCount: -1, retryDelay: 50 }),
    );
    expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
    expect(performance.now() - start).toBeLessThan(300 + 2000);
    expect(error.attempts.length).toBeGreaterThan(1);
  });

  test("is one attempt with an acquireTimeout of 0", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const error = await rejection(redlock.acquire(resource, 5000, { acquireTimeout: 0 }));
    expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
    expect(error.attempts).toHaveLength(1);
  });

  test("ends at once when the signal aborts, with its reason, and frees what an attempt took", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 3), resource);
    const controller = new AbortController();
    const waiting = redlock.acquire(resource, 60_000, {
      retryCount: -1,
      retryDelay: 60_000,
      signal: controller.signal,
    });
    await until(
      () => defined(clients[0]).sent.some((line) => line.startsWith(`set ${resource}`)),
      5000,
      () => "no attempt was seen",
    );
    const reason = new Error("changed my mind");
    controller.abort(reason);
    expect(await rejection(waiting)).toBe(reason);
    await untilFree(servers.slice(3), resource);
  });

  test("does not begin when the signal has aborted, and sends nothing", async () => {
    const resource = fresh();
    const reason = new Error("too late");
    const signal = AbortSignal.abort(reason);
    expect(await rejection(redlock.acquire(resource, 5000, { signal }))).toBe(reason);
    expect(await rejection(redlock.tryAcquire(resource, 5000, { signal }))).toBe(reason);
    expect(clients.flatMap(({ sent }) => sent).filter((line) => line.includes(resource))).toEqual(
      [],
    );
  });
});

describe("validity", () => {
  let proxies: Proxy[];
  let slow: Redlock;

  beforeAll(async () => {
    proxies = await Promise.all(servers.map(({ port }) => startProxy(port)));
    slow = new Redlock(proxies.map(({ url }) => url));
    await (await slow.acquire(fresh(), 5000)).release();
  });

  afterAll(async () => {
    await slow.quit();
    await Promise.all(proxies.map((proxy) => proxy.close()));
  });

  test("that the attempt itself used up is no lock", async () => {
    const resource = fresh();
    for (const proxy of proxies) proxy.replyDelayMs = 120;
    const error = await rejection(
      slow.acquire(resource, 100, { retryCount: 0, nodeTimeout: 10_000 }),
    );
    for (const proxy of proxies) proxy.replyDelayMs = 0;
    expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
    expect(error.message).toContain("too late");
    await untilFree(servers, resource);
  });

  test("gives up the share for drift", async () => {
    const resource = fresh();
    for (const proxy of proxies) proxy.replyDelayMs = 150;
    const error = await rejection(
      slow.acquire(resource, 1000, { retryCount: 0, nodeTimeout: 10_000, driftFactor: 0.9 }),
    );
    for (const proxy of proxies) proxy.replyDelayMs = 0;
    expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
  });

  test("shrinks by a step of the wall clock forward", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    const lock = await stepped.acquire(fresh(), 10_000);
    const before = lock.remaining;
    clocks.wallStepMs = 5000;
    expect(lock.remaining).toBeLessThanOrEqual(before - 4900);
    expect(lock.valid).toBe(true);
    clocks.wallStepMs = 9900;
    expect(lock.valid).toBe(false);
    expect(lock.expiration).toBe(0);
    clocks.wallStepMs = 0;
    expect(lock.valid).toBe(false);
  });

  test("does not grow by a step of the wall clock back", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    const lock = await stepped.acquire(fresh(), 10_000);
    clocks.wallStepMs = -3_600_000;
    expect(lock.remaining).toBeLessThanOrEqual(10_000 - 102);
    clocks.monotonicStepMs = 9900;
    expect(lock.valid).toBe(false);
  });

  test("counts from before the first command, not from the answers", async () => {
    const resource = fresh();
    for (const proxy of proxies) proxy.replyDelayMs = 300;
    const lock = await slow.acquire(resource, 5000, { nodeTimeout: 10_000 });
    for (const proxy of proxies) proxy.replyDelayMs = 0;
    expect(lock.remaining).toBeLessThanOrEqual(5000 - 52 - 300);
    await lock.release();
  });

  test("of a slow vote ends with the node's own timeout: its late yes is no vote, and is taken back", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 2), resource, "other");
    const [, , late] = proxies;
    defined(late).replyDelayMs = 400;
    const error = await rejection(
      slow.acquire(resource, 60_000, { retryCount: 0, nodeTimeout: 100 }),
    );
    expect(error.message).toContain("no answer in 100 ms");
    const { attempts } = error;
    expect((await defined(attempts[0])).votesFor.size).toBe(2);
    defined(late).replyDelayMs = 0;
    await untilFree(servers.slice(2), resource);
  });
});

describe("the release of a failed attempt", () => {
  test("is sent before the caller learns of the failure", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 3), resource);
    await rejection(redlock.acquire(resource, 60_000, { retryCount: 0 }));
    for (const { sent } of clients) {
      const lines = sent.filter((line) => line.includes(resource));
      expect(lines[0]).toMatch(/^set/);
      expect(lines[1]).toMatch(/^evalsha/);
    }
    await untilFree(servers.slice(3), resource);
  });
});
