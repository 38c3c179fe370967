import { beforeAll, describe, expect, test } from "@jest/globals";
import { ask, type RedisServer, until } from "../support/servers.js";
import { type Lock, type LockJson, Redlock, type RedlockSettings } from "../../src/index.js";
import { internalsKey, withInternals } from "../../src/internals.js";
import { movableClocks } from "../support/environment.js";
import { defined, fresh, occupy, rejection, untilFree } from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

const DAY_MS = 86_400_000;
const TTL_MS = 10_000;
const ONE_ATTEMPT = { retryCount: 0 };

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(async () => {
  // Each test's own clocks make a connection of their own, and add its listeners.
  for (const client of clients) client.setMaxListeners(0);
  redlock = new Redlock(clients, { fencing: true });
  // The nodes know the scripts from then on.
  const lock = await redlock.acquire(fresh(), TTL_MS);
  await Promise.all(lock.attempts);
  await lock.extend(TTL_MS);
  await lock.release();
  await (await lateOn(fresh(), clientWhoseClockIs(-1))).release();
});

/** A Redlock of another host, whose wall clock is so many days ahead. */
function clientWhoseClockIs(daysAhead: number, settings: RedlockSettings = {}): Redlock {
  const clocks = movableClocks();
  clocks.wallStepMs = daysAhead * DAY_MS;
  return new Redlock(clients, { fencing: true, ...settings, ...clocks.settings });
}

function fenceOf(resource: string): string {
  return `{${resource}}:redlock:fence`;
}

/** What each server keeps for the resource, and for how long. */
function fencesOn(resource: string): Promise<{ token: number; remainingMs: number }[]> {
  return Promise.all(
    servers.map(async ({ port }) => ({
      token: Number.parseInt((await ask(port, ["GET", fenceOf(resource)])) || "0"),
      remainingMs: Number(await ask(port, ["PTTL", fenceOf(resource)])),
    })),
  );
}

async function setFences(
  on: readonly RedisServer[],
  resource: string,
  fence: string,
): Promise<void> {
  await Promise.all(on.map(({ port }) => ask(port, ["SET", fenceOf(resource), fence])));
}

/** Under a fence of the present, a lock that the client takes by a second round. */
async function lateOn(resource: string, client: Redlock): Promise<Lock> {
  await setFences(servers, resource, `${Date.now() * 1000} another`);
  const lock = await client.acquire(resource, TTL_MS);
  await Promise.all(lock.attempts);
  return lock;
}

async function tokenOf(client: Redlock, resource: string | string[]): Promise<number> {
  const lock = await client.acquire(resource, TTL_MS, { retryCount: -1, retryDelay: 20 });
  await lock.release();
  return defined(lock.fence);
}

async function sentMeanwhile(body: () => Promise<unknown>): Promise<string[][]> {
  await Promise.all(clients.map((client) => client.ping()));
  for (const client of clients) client.sent = [];
  await body();
  return clients.map(({ sent }) => [...sent]);
}

describe("a fencing token", () => {
  test("is the host's time in microseconds, from one round trip", async () => {
    const resource = fresh();
    const before = Date.now() * 1000;
    let lock: Lock | undefined;
    const sent = await sentMeanwhile(async () => {
      lock = await redlock.acquire(resource, TTL_MS);
    });
    expect(defined(lock).fence).toBeGreaterThanOrEqual(before);
    expect(defined(lock).fence).toBeLessThanOrEqual(Date.now() * 1000 + 1000);
    expect(sent.map((lines) => lines.length)).toEqual([1, 1, 1, 1, 1]);
    await defined(lock).release();
  });

  test("is not given where nobody asked for one, nor is anything kept", async () => {
    const resource = fresh();
    const plain = new Redlock(clients);
    const lock = await plain.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    await lock.extend(TTL_MS);
    expect(lock.fence).toBeUndefined();
    expect(Object.keys(lock.toJSON())).not.toContain("fence");
    expect((await fencesOn(resource)).map(({ token }) => token)).toEqual([0, 0, 0, 0, 0]);
    await lock.release();
  });

  test("can be asked for in a call, or declined", async () => {
    const plain = new Redlock(clients);
    await plain.using(fresh(), TTL_MS, { fencing: true }, (_signal, lock) => {
      expect(lock.fence).toBeGreaterThan(1e15);
    });
    const lock = defined(await redlock.tryAcquire(fresh(), TTL_MS, { fencing: false }));
    expect(lock.fence).toBeUndefined();
    await lock.release();
  });

  test.each(["yes", 1, null])("is not asked for by %p", async (fencing) => {
    const wrong = { fencing } as unknown as RedlockSettings;
    const error = await rejection(redlock.acquire(fresh(), TTL_MS, wrong));
    expect(error.name).toBe("TypeError");
    expect(error.message).toContain("The setting fencing of acquire() must be true or false");
  });

  test("grows from lock to lock, also within one microsecond of a clock that stands still", async () => {
    const resource = fresh();
    const { environment, checkNode } = movableClocks().settings[internalsKey];
    const still = { ...environment, now: () => ({ ...environment.now(), wallMs: 1e12 }) };
    const internals = { environment: still, checkNode };
    const frozen = new Redlock(clients, withInternals(internals, { fencing: true }));
    expect(await tokenOf(frozen, resource)).toBe(1e15);
    expect(await tokenOf(frozen, resource)).toBe(1e15 + 1);
    expect(await tokenOf(frozen, resource)).toBe(1e15 + 2);
  });

  test("grows over clients whose clocks are days apart, whoever comes next", async () => {
    const resource = fresh();
    const hosts = [0, 3, -3, 0.5, -7].map((days) => clientWhoseClockIs(days));
    const tokens: number[] = [];
    for (let round = 0; round < 30; round++) {
      tokens.push(await tokenOf(defined(hosts[(round * 7) % hosts.length]), resource));
    }
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
    expect(tokens).toHaveLength(30);
  });

  test("grows where clients whose clocks are days apart contend", async () => {
    const resource = fresh();
    const tokens: number[] = [];
    await Promise.all(
      [0, 2, -2].map(async (days) => {
        const host = clientWhoseClockIs(days, { retryCount: -1, retryDelay: 10, retryJitter: 10 });
        for (let round = 0; round < 8; round++) {
          await host.using(resource, TTL_MS, (_signal, { fence }) => {
            tokens.push(defined(fence));
          });
        }
      }),
    );
    expect(tokens).toHaveLength(24);
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
  });

  test("of several resources is above all of theirs", async () => {
    const [a, b] = [fresh(), fresh()];
    const ahead = await tokenOf(clientWhoseClockIs(5), b);
    const both = await tokenOf(redlock, [a, b]);
    expect(both).toBeGreaterThan(ahead);
    const late = clientWhoseClockIs(-5);
    expect(await tokenOf(late, a)).toBeGreaterThan(both);
    expect(await tokenOf(late, b)).toBeGreaterThan(both);
  });
});

describe("the second round", () => {
  test("proposes one above what the nodes have, where their quorum has more", async () => {
    const resource = fresh();
    const ahead = await tokenOf(clientWhoseClockIs(2), resource);
    let lock: Lock | undefined;
    const sent = await sentMeanwhile(async () => {
      lock = await clientWhoseClockIs(0).acquire(resource, TTL_MS);
      await Promise.all(lock.attempts);
    });
    expect(defined(lock).fence).toBe(ahead + 1);
    const rounds = sent.map((lines) => lines.filter((line) => line.includes(resource)));
    expect(rounds.filter(([, second = ""]) => second.includes(String(ahead + 1)))).toHaveLength(5);
    await until(
      async () => (await fencesOn(resource)).every(({ token }) => token === ahead + 1),
      5000,
      () => "not every node has the token",
    );
    await defined(lock).release();
  });

  test("goes to no node that refused the lock", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 2), resource);
    const sent = await sentMeanwhile(() => lateOn(resource, clientWhoseClockIs(-1)));
    const asked = sent.map((lines) => lines.filter((line) => line.includes(resource)).length);
    expect(asked.slice(2)).toEqual([2, 2, 2]);
    // A refusal that comes after the others' votes may find it on its way.
    for (const count of asked.slice(0, 2)) expect([1, 2]).toContain(count);
  });
});

describe("a fence key", () => {
  test("lives for a day, or for ten ttls", async () => {
    const [short, long] = [fresh(), fresh()];
    const week = 7 * DAY_MS;
    const host = clientWhoseClockIs(0);
    const locks = [await host.acquire(short, TTL_MS), await host.acquire(long, week)];
    await Promise.all(locks.flatMap(({ attempts }) => attempts));
    for (const { remainingMs } of await fencesOn(short)) {
      expect(Math.abs(remainingMs - DAY_MS)).toBeLessThan(5000);
    }
    for (const { remainingMs } of await fencesOn(long)) {
      expect(Math.abs(remainingMs - 10 * week)).toBeLessThan(5000);
    }
    for (const lock of locks) await lock.release();
  });

  test("lives for a day after the token's own time where that is later than the server's", async () => {
    const resource = fresh();
    const lock = await clientWhoseClockIs(4).acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    for (const { remainingMs } of await fencesOn(resource)) {
      expect(Math.abs(remainingMs - 5 * DAY_MS)).toBeLessThan(5000);
    }
    await lock.release();
  });

  test("lives for a day after the server's time where the token's own is earlier", async () => {
    const resource = fresh();
    const lock = await clientWhoseClockIs(-4).acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    for (const { remainingMs } of await fencesOn(resource)) {
      expect(Math.abs(remainingMs - DAY_MS)).toBeLessThan(5000);
    }
    await lock.release();
  });

  test("is renewed by an extension, for its ttl, and outlives the lock", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    await Promise.all(servers.map(({ port }) => ask(port, ["PEXPIRE", fenceOf(resource), "9000"])));
    await lock.extend(DAY_MS);
    await until(
      async () => (await fencesOn(resource)).every(({ remainingMs }) => remainingMs > 9 * DAY_MS),
      5000,
      () => "a fence was not renewed",
    );
    await lock.release();
    await untilFree(servers, resource);
    expect((await fencesOn(resource)).map(({ token }) => token)).toEqual(Array(5).fill(lock.fence));
  });

  test("is given back, with the lock, to a node that lost both", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    const { port } = defined(servers[0]);
    await ask(port, ["DEL", resource, fenceOf(resource)]);
    await lock.extend(TTL_MS);
    await until(
      async () => (await fencesOn(resource))[0]?.token === lock.fence,
      5000,
      () => "the fence is not back",
    );
    expect(await ask(port, ["GET", resource])).toBe(lock.value);
    // Alone, too, by the extension itself.
    await ask(port, ["DEL", fenceOf(resource)]);
    await lock.extend(TTL_MS);
    await until(
      async () => (await fencesOn(resource))[0]?.token === lock.fence,
      5000,
      () => "the fence alone is not back",
    );
    await lock.release();
  });

  test("that is broken costs no extension", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    for (const { port } of servers) {
      await ask(port, ["DEL", fenceOf(resource)]);
      await ask(port, ["RPUSH", fenceOf(resource), "x"]);
    }
    await lock.extend(2 * TTL_MS);
    expect(lock.remaining).toBeGreaterThan(TTL_MS);
    await lock.release();
  });

  test.each([
    ["2^53", "9007199254740992 another"],
    ["2^53 - 1, which nothing can follow", "9007199254740991 another"],
    ["what is no token", "hello"],
  ])("that holds %s refuses every lock, and says so", async (_what, fence) => {
    const resource = fresh();
    await setFences(servers.slice(0, 3), resource, fence);
    const error = await rejection(redlock.acquire(resource, TTL_MS, ONE_ATTEMPT));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toContain("no larger fencing token below 2^53 can follow what");
    expect(error.message).toContain(fenceOf(resource));
    await untilFree(servers, resource);
  });

  test("that holds a list refuses every lock, and says so", async () => {
    const resource = fresh();
    for (const { port } of servers) await ask(port, ["RPUSH", fenceOf(resource), "x"]);
    const error = await rejection(redlock.acquire(resource, TTL_MS, ONE_ATTEMPT));
    expect(error.message).toContain(
      `no larger fencing token below 2^53 can follow what ${fenceOf(resource)} holds`,
    );
    await untilFree(servers, resource);
  });

  test("of a minority that is broken refuses nothing", async () => {
    const resource = fresh();
    await setFences(servers.slice(0, 2), resource, "9007199254740993");
    const lock = await redlock.acquire(resource, TTL_MS, ONE_ATTEMPT);
    expect(lock.fence).toBeGreaterThan(1e15);
    await lock.release();
  });
});

describe("a token is exact", () => {
  test("up to the last below 2^53, and there is none after that", async () => {
    const resource = fresh();
    const last = Number.MAX_SAFE_INTEGER;
    await setFences(servers, resource, `${last - 1} another`);
    const host = clientWhoseClockIs(0);
    const lock = await host.acquire(resource, TTL_MS);
    expect(lock.fence).toBe(last);
    await Promise.all(lock.attempts);
    expect(await ask(defined(servers[0]).port, ["GET", fenceOf(resource)])).toBe(
      `${last} ${lock.value}`,
    );
    await lock.release();
    const none = await rejection(host.acquire(resource, TTL_MS, ONE_ATTEMPT));
    expect(none.message).toContain("no larger fencing token below 2^53 can follow what");
    // That is this resource's trouble, and no other's.
    const other = await host.acquire(fresh(), TTL_MS);
    expect(other.fence).toBeLessThan(1e16 / 2);
    await other.release();
    const error = await rejection(clientWhoseClockIs(100_000).acquire(fresh(), TTL_MS));
    expect(error.name).toBe("RangeError");
    expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
    expect(error.message).toContain("no fencing token below 2^53 left");
  });

  test("in one call with other operations", async () => {
    const resources = Array.from({ length: 20 }, () => fresh());
    for (const resource of resources.slice(10)) {
      await setFences(servers, resource, "9007199254740000 another");
    }
    const host = clientWhoseClockIs(0);
    const acquireAll = (): Promise<Lock[]> =>
      Promise.all(
        resources.map((resource, index) =>
          host.acquire(resource, TTL_MS, { fencing: index % 5 !== 0 }),
        ),
      );
    // To the last node: one that had not cached a script would still hold the keys, and be asked once more.
    for (const lock of await acquireAll()) {
      const { attempts } = await lock.release();
      await Promise.all(attempts);
    }
    let locks: Lock[] = [];
    const sent = await sentMeanwhile(async () => {
      locks = await acquireAll();
      await Promise.all(locks.flatMap(({ attempts }) => attempts));
    });
    for (const lines of sent) expect(lines.length).toBeLessThanOrEqual(2);
    for (const [index, { fence, resources: names, value }] of locks.entries()) {
      if (index % 5 === 0) {
        expect(fence).toBeUndefined();
        continue;
      }
      if (index > 10) expect(fence).toBeGreaterThan(9_007_199_254_740_000);
      await until(
        async () =>
          (await ask(defined(servers[0]).port, ["GET", fenceOf(names[0] ?? "")])) ===
          `${fence} ${value}`,
        5000,
        () => `the token of ${names[0]} is not kept as it was given`,
      );
    }
    await Promise.all(locks.map((lock) => lock.extend(2 * TTL_MS)));
    await Promise.all(locks.map((lock) => lock.release()));
  });
});

describe("a lock with a token", () => {
  test("hands it on by toJSON and adopt, which extends and releases it as before", async () => {
    const resource = fresh();
    const lock = await clientWhoseClockIs(3).acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    const json = JSON.parse(JSON.stringify(lock)) as LockJson;
    expect(json.fence).toBe(lock.fence);
    const plain = new Redlock(clients);
    const adopted = plain.adopt(json);
    expect(adopted.fence).toBe(lock.fence);
    expect(adopted.toJSON()).toEqual(json);
    await Promise.all(servers.map(({ port }) => ask(port, ["PEXPIRE", fenceOf(resource), "9000"])));
    await adopted.extend(TTL_MS);
    await until(
      async () => (await fencesOn(resource)).every(({ remainingMs }) => remainingMs > DAY_MS / 2),
      5000,
      () => "the adopted lock's extension did not renew a fence",
    );
    await adopted.release();
  });

  test.each([
    ["0", 0],
    ["a fraction", 1.5],
    ["2^53", 2 ** 53],
    ["a string", "5"],
    ["null", null],
  ])("is not adopted where its fence is %s", async (_what, fence) => {
    const lock = await redlock.acquire(fresh(), TTL_MS);
    const json = { ...lock.toJSON(), fence } as LockJson;
    expect(() => redlock.adopt(json)).toThrow(/the lock's fence, a whole number/);
    await lock.release();
  });

  test("that is adopted raises what its Redlock proposes next", async () => {
    const lock = await clientWhoseClockIs(3).acquire(fresh(), TTL_MS);
    const host = clientWhoseClockIs(0);
    host.adopt(lock.toJSON());
    expect(await tokenOf(host, fresh())).toBe(defined(lock.fence) + 1);
    await lock.release();
  });
});

describe("a resource", () => {
  test.each(["a{}b", "a}b", "a{b", "{}"])(
    "named %s cannot be fenced, which is said before anything is sent",
    async (resource) => {
      const sent = await sentMeanwhile(async () => {
        const error = await rejection(redlock.acquire(["fine", resource], TTL_MS));
        expect(error.name).toBe("TypeError");
        expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
        expect(error.message).toContain(`acquire() cannot fence the key ${resource}:`);
      });
      expect(sent.flat()).toEqual([]);
      const json = { ...(await plainJson()), resources: [resource], fence: 7 };
      expect(() => redlock.adopt(json)).toThrow("adopt() cannot fence the key");
      await new Redlock(clients).using(resource, TTL_MS, () => "without a token it can be locked");
    },
  );

  test("with a hash tag keeps its token under the same tag", async () => {
    const resource = `{${fresh()}}:items`;
    const lock = await redlock.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    expect(await ask(defined(servers[0]).port, ["GET", `${resource}::redlock:fence`])).toBe(
      `${lock.fence} ${lock.value}`,
    );
    await lock.release();
  });

  test("has its key prefix in the fence key", async () => {
    const resource = fresh();
    const prefixed = new Redlock(clients, { fencing: true, keyPrefix: "locks:" });
    const lock = await prefixed.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    const fence = `{locks:${resource}}:redlock:fence`;
    expect(await ask(defined(servers[0]).port, ["EXISTS", fence])).toBe("1");
    await lock.release();
  });

  test("that another holds keeps its fence", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, TTL_MS);
    await Promise.all(lock.attempts);
    expect(await clientWhoseClockIs(9).tryAcquire(resource, TTL_MS)).toBeNull();
    expect((await fencesOn(resource)).map(({ token }) => token)).toEqual(Array(5).fill(lock.fence));
    await lock.release();
  });
});

async function plainJson(): Promise<LockJson> {
  const lock = await new Redlock(clients).acquire(fresh(), TTL_MS);
  await lock.release();
  return lock.toJSON();
}
