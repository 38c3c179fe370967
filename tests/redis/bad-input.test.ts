import { afterAll, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { once } from "node:events";
import { Redis } from "ioredis";
import net from "node:net";
import { setImmediate as turnOfTheLoop } from "node:timers/promises";
import { ask, type RedisServer, until } from "../support/servers.js";
import {
  type Lock,
  type LockJson,
  type NodeEntry,
  Redlock,
  type RedlockSettings,
  type Settings,
} from "../../src/index.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  rejection,
  untilFree,
  untilHeld,
  valuesOn,
} from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

const TTL_MS = 600_000;
const SCALE = { numRuns: 200 };

let redlock: Redlock;
let lock: Lock;
const { servers, clients } = useServersAndClients(3, { beforeStop: () => lock.release() });

beforeAll(async () => {
  redlock = new Redlock(clients, { retryCount: 0, nodeTimeout: 5000 });
  lock = await redlock.acquire(fresh("held"), TTL_MS);
  await Promise.all(lock.attempts);
});

beforeEach(async () => {
  // An answer to this comes behind all that the test before has sent.
  await Promise.all(clients.map((client) => client.ping()));
  for (const client of clients) client.sent = [];
});

type ErrorClass = typeof TypeError | typeof RangeError;

/** What the error is, and what its message says: what is wrong, where, what to do. */
function expectRefusal(error: unknown, kind: ErrorClass, ...says: readonly string[]): void {
  expect(error).toBeInstanceOf(kind);
  expect(error).toHaveProperty("code", "ERR_REDLOCK_INVALID_ARGUMENT");
  const { message } = error as Error;
  for (const part of says) expect(message).toContain(part);
  expect(message).toMatch(/\.$/);
}

function expectNothingSent(about = ""): void {
  const sent = clients.flatMap((client) => client.sent).filter((line) => line.includes(about));
  expect(sent).toEqual([]);
}

/** What a call is rejected with; a call that throws instead of rejecting fails the test. */
async function refused(call: () => Promise<unknown>): Promise<Error> {
  let promise: Promise<unknown>;
  try {
    promise = call();
  } catch (error) {
    throw new Error("threw where it should have rejected", { cause: error });
  }
  const error = await rejection(promise);
  // What was to be sent in the same turn of the loop, or the next, is on its way by now.
  await turnOfTheLoop();
  await turnOfTheLoop();
  expectNothingSent();
  return error;
}

function thrown(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    expectNothingSent();
    return error;
  }
  throw new Error("expected it to throw");
}

async function uptimeS({ port }: RedisServer): Promise<number> {
  const info = await ask(port, ["INFO", "server"]);
  return Number(/uptime_in_seconds:(\d+)/.exec(info)?.[1]);
}

function neverRun(): never {
  throw new Error("the routine ran");
}

/** A value as a row of a table is named after it. */
function inText(value: unknown): string {
  if (typeof value === "number" || typeof value === "bigint" || value === undefined) {
    return String(value);
  }
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const { constructor } = value as { constructor?: { name: string } };
    return `${constructor?.name ?? "null-prototype"} ${String(Object.keys(value))}`;
  }
  return JSON.stringify(value);
}

describe("a ttl", () => {
  const rule = "Duration must be an integer value in milliseconds.";
  const calls: Record<string, (ttl: number) => Promise<unknown>> = {
    "acquire()": (ttl) => redlock.acquire(fresh(), ttl),
    "tryAcquire()": (ttl) => redlock.tryAcquire(fresh(), ttl),
    "using()": (ttl) => redlock.using(fresh(), ttl, neverRun),
    "extend()": (ttl) => redlock.extend(lock, ttl),
  };
  const rows: [ErrorClass, unknown, string][] = [
    [RangeError, 0, "is 0"],
    [RangeError, 1, "is 1"],
    [RangeError, 2, "is 2"],
    [RangeError, -1, "is -1"],
    [RangeError, -5000, "is -5000"],
    [RangeError, Infinity, "is Infinity"],
    [RangeError, -Infinity, "is -Infinity"],
    [RangeError, 2 ** 53, "is 9007199254740992"],
    [TypeError, NaN, "is NaN"],
    [TypeError, 0.5, "is 0.5"],
    [TypeError, 4999.5, "is 4999.5"],
    [TypeError, -1.5, "is -1.5"],
    [TypeError, "5000", "of type string"],
    [TypeError, "", "an empty string"],
    [TypeError, undefined, "is undefined"],
    [TypeError, null, "is null"],
    [TypeError, true, "of type boolean"],
    [TypeError, 5000n, "of type bigint"],
    [TypeError, [5000], "an array"],
    [TypeError, { ttl: 5000 }, "of type object"],
  ];
  const table = Object.entries(calls).flatMap(([name, call]) =>
    rows.map(([kind, ttl, says]) => ({ name, call, kind, ttl, says, text: inText(ttl) })),
  );

  test.each(table)(
    "of $text is refused by $name with a $kind.name, and nothing is sent",
    async ({ name, call, kind, ttl, says }) => {
      const error = await refused(() => call(ttl as number));
      expectRefusal(error, kind, `The ttl of ${name}`, says);
      expect(error.message.startsWith(rule)).toBe(true);
    },
  );

  test.each(rows.map(([kind, ttl, says]) => ({ kind, ttl, says, text: inText(ttl) })))(
    "of $text is refused by a lock's own extend(), which stays valid",
    async ({ kind, ttl, says }) => {
      const error = await refused(() => lock.extend(ttl as number));
      expectRefusal(error, kind, rule, says);
      expect(lock.valid).toBe(true);
    },
  );

  test("that the drift uses up is refused, and one that leaves a millisecond is not", async () => {
    const settings = { driftFactor: 0.5, retryCount: 0 };
    const error = await refused(() => redlock.acquire(fresh(), 4, settings));
    expectRefusal(error, RangeError, rule, "is 4", "50 %");
    // Half of 6, and 2 ms, leave one: it is asked for, whether or not it can be had in that time. On clients of
    // its own: what it sends after its time is over would count as sent by a later test.
    const own = await connectAll(servers);
    const attempting = new Redlock(own, { nodeTimeout: 5000 });
    await attempting
      .acquire(fresh(), 6, settings)
      .then((taken) => taken.release())
      .catch((reason: unknown) => {
        expect(reason).not.toBeInstanceOf(RangeError);
      });
    expect(defined(own[0]).sent).not.toEqual([]);
    await attempting.quit();
  });

  test("that is no integer is refused by every call, whatever it is", async () => {
    const noInteger = fc
      .oneof(fc.double(), fc.anything({ withBigInt: true, withDate: true }))
      .filter((value) => !Number.isInteger(value));
    await fc.assert(
      fc.asyncProperty(
        noInteger,
        fc.constantFrom(...Object.values(calls)),
        async (ttl, call: (ttl: number) => Promise<unknown>) => {
          const error = await refused(() => call(ttl as number));
          const isInfinite = ttl === Infinity || ttl === -Infinity;
          expectRefusal(error, isInfinite ? RangeError : TypeError, rule);
        },
      ),
      SCALE,
    );
  });

  test("that leaves no validity is refused by every call, whatever the drift factor", async () => {
    const driftFactors = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    await fc.assert(
      fc.asyncProperty(fc.integer({ max: 1000 }), driftFactors, async (ttl, driftFactor) => {
        fc.pre(ttl - Math.round(ttl * driftFactor) - 2 <= 0);
        const settings = { driftFactor };
        for (const call of [
          () => redlock.acquire(fresh(), ttl, settings),
          () => redlock.tryAcquire(fresh(), ttl, settings),
          () => redlock.using(fresh(), ttl, settings, neverRun),
          () => redlock.extend(lock, ttl, settings),
        ]) {
          expectRefusal(await refused(call), RangeError, rule, `is ${ttl}`);
        }
      }),
      SCALE,
    );
  });
});

describe("the resources of one lock", () => {
  const names = (count: number, length = 1): string[] =>
    Array.from({ length: count }, (_, index) => String(index).padEnd(length, "x"));
  const calls: Record<string, (resources: string | string[]) => Promise<unknown>> = {
    "acquire()": (resources) => redlock.acquire(resources, TTL_MS),
    "tryAcquire()": (resources) => redlock.tryAcquire(resources, TTL_MS),
    "using()": (resources) => redlock.using(resources, TTL_MS, neverRun),
    "inspect()": (resources) => redlock.inspect(resources),
    "adopt()": (resources) =>
      Promise.resolve().then(() => redlock.adopt({ ...lock.toJSON(), resources } as LockJson)),
  };

  test.each(Object.entries(calls))(
    "are at most 1000, with at most 100 000 characters: %s refuses more",
    async (name, call) => {
      expectRefusal(await refused(() => call(names(1001))), RangeError, name, "1001", "1000");
      expectRefusal(await refused(() => call(names(130_000))), RangeError, name, "130000");
      for (const long of [["x".repeat(100_001)], names(500, 201), ["x".repeat(1 << 20)]]) {
        const error = await refused(() => call(long));
        expectRefusal(error, RangeError, name, "characters", "100000");
        expect(error.message.length).toBeLessThan(300);
      }
    },
  );

  test("may be 1000, with 100 000 characters, and repeats do not count", async () => {
    const most = names(1000, 100);
    const taken = await redlock.acquire([...most, ...most], TTL_MS);
    expect(taken.resources).toEqual(most);
    expect(redlock.adopt(taken.toJSON()).resources).toEqual(most);
    for (const node of await redlock.inspect(most)) expect(node.ok).toBe(true);
    await taken.extend(TTL_MS);
    await taken.release();
  });

  test("have the prefix in their keys, which counts", async () => {
    const prefixed = new Redlock(clients, { keyPrefix: "x".repeat(60) });
    const error = await refused(() => prefixed.acquire(names(1000, 41), TTL_MS));
    expectRefusal(error, RangeError, "acquire()", "101000");
  });
});

describe("resources", () => {
  type Resources = string | readonly string[];
  const calls: Record<string, (resources: Resources) => Promise<unknown>> = {
    "acquire()": (resources) => redlock.acquire(resources, TTL_MS),
    "tryAcquire()": (resources) => redlock.tryAcquire(resources, TTL_MS),
    "using()": (resources) => redlock.using(resources, TTL_MS, neverRun),
    "inspect()": (resources) => redlock.inspect(resources),
  };
  const holed = ["a", "b", "c"];
  // eslint-disable-next-line @typescript-eslint/no-array-delete
  delete holed[1];
  const rows: [string, unknown, string][] = [
    ["an empty array", [], "empty. Name at least one"],
    ["an empty string", "", "number 1 is an empty string"],
    ["an array of an empty string", [""], "number 1 is an empty string"],
    ["an array with an empty string", ["a", ""], "number 2 is an empty string"],
    ["an array of a number", ["a", "b", 5], "number 3 is 5"],
    ["an array of undefined", [undefined], "number 1 is undefined"],
    ["an array of null", [null], "number 1 is null"],
    ["an array in an array", [["a"]], "number 1 is an array"],
    ["an array of an object", [{ name: "a" }], "number 1 is a value of type object"],
    ["an array that is all hole", new Array<string>(1), "number 1 is undefined"],
    ["an array with a hole", holed, "number 2 is undefined"],
    ["a number", 5, "but are 5"],
    ["undefined", undefined, "but are undefined"],
    ["null", null, "but are null"],
    ["an object", { 0: "a", length: 1 }, "but are a value of type object"],
    ["a Set", new Set(["a"]), "but are a value of type object"],
    ["a function", neverRun, "but are a value of type function"],
  ];
  const table = Object.entries(calls).flatMap(([name, call]) =>
    rows.map(([text, resources, says]) => ({ name, call, text, resources, says })),
  );

  test.each(table)(
    "that are $text are refused by $name with a TypeError, and nothing is sent",
    async ({ name, call, resources, says }) => {
      const error = await refused(() => call(resources as Resources));
      expectRefusal(error, TypeError, name, says);
    },
  );

  test("that are anything but names are refused by every call", async () => {
    const isName = (value: unknown): boolean => typeof value === "string" && value !== "";
    const noNames = fc
      .oneof(
        fc.anything({ withSparseArray: true, withSet: true, withNullPrototype: true }),
        fc.sparseArray(fc.string(), { noTrailingHole: false }),
        fc.array(fc.oneof(fc.string({ maxLength: 2 }), fc.anything())),
      )
      .filter((value) =>
        Array.isArray(value)
          ? value.length === 0 || !Array.from(value).every(isName)
          : !isName(value),
      );
    await fc.assert(
      fc.asyncProperty(
        noNames,
        fc.constantFrom(...Object.values(calls)),
        async (resources, call: (resources: Resources) => Promise<unknown>) => {
          expectRefusal(await refused(() => call(resources as Resources)), TypeError);
        },
      ),
      SCALE,
    );
  });
});

describe("a setting", () => {
  const calls: Record<string, (settings: Settings) => Promise<unknown>> = {
    "acquire()": (settings) => redlock.acquire(fresh(), TTL_MS, settings),
    "tryAcquire()": (settings) => redlock.tryAcquire(fresh(), TTL_MS, settings),
    "using()": (settings) => redlock.using(fresh(), TTL_MS, settings, neverRun),
    "extend()": (settings) => redlock.extend(lock, TTL_MS, settings),
    "release()": (settings) => redlock.release(lock, settings),
  };
  const values: [ErrorClass, keyof RedlockSettings, unknown, string][] = [
    [RangeError, "driftFactor", 1, "below 1, but is 1"],
    [RangeError, "driftFactor", 1.5, "below 1, but is 1.5"],
    [RangeError, "driftFactor", -0.1, "at least 0 and below 1, but is -0.1"],
    [RangeError, "driftFactor", Infinity, "below 1, but is Infinity"],
    [TypeError, "driftFactor", NaN, "must be a number, but is NaN"],
    [TypeError, "driftFactor", "0.01", "must be a number, but is a value of type string"],
    [TypeError, "driftFactor", null, "must be a number, but is null"],
    [RangeError, "retryCount", -2, "at least -1 (attempts after the first; -1 for no limit)"],
    [RangeError, "retryCount", Infinity, "-1 for no limit"],
    [TypeError, "retryCount", 1.5, "whole number (attempts after the first; -1 for no limit)"],
    [TypeError, "retryCount", NaN, "must be a number, but is NaN"],
    [TypeError, "retryCount", "10", "must be a number, but is a value of type string"],
    [TypeError, "retryCount", 10n, "must be a number, but is a value of type bigint"],
    [RangeError, "retryDelay", -1, "at least 0 (ms), but is -1"],
    [TypeError, "retryDelay", 0.5, "whole number (ms), but is 0.5. Round it"],
    [TypeError, "retryDelay", "200", "must be a number"],
    [RangeError, "retryJitter", -1, "at least 0 (ms), but is -1"],
    [TypeError, "retryJitter", NaN, "must be a number"],
    [RangeError, "acquireTimeout", -1, "at least 0 (ms; 0 for one attempt), but is -1"],
    [TypeError, "acquireTimeout", "1000", "must be a number"],
    [RangeError, "nodeTimeout", 0, "at least 1 (ms), but is 0"],
    [RangeError, "nodeTimeout", -1, "at least 1 (ms), but is -1"],
    [TypeError, "nodeTimeout", 2.5, "whole number (ms), but is 2.5"],
    [RangeError, "automaticExtensionThreshold", 0, "at least 1 (ms), but is 0"],
    [TypeError, "automaticExtensionThreshold", "500", "must be a number"],
    [TypeError, "signal", {}, "must be an AbortSignal"],
    [TypeError, "signal", null, "must be an AbortSignal, but is null"],
    [TypeError, "signal", "stop", "must be an AbortSignal"],
    // Its `signal` was meant.
    [TypeError, "signal", new AbortController(), "must be an AbortSignal"],
    // That of an old polyfill, without throwIfAborted.
    [
      TypeError,
      "signal",
      Object.assign(new EventTarget(), { aborted: false }),
      "must be an AbortSignal",
    ],
  ];
  const valueRows = values.map(([kind, name, value, says]) => ({
    ...{ kind, name, value, says },
    text: inText(value),
  }));

  test.each(valueRows)(
    "$name of $text is refused by every call with a $kind.name, and nothing is sent",
    async ({ kind, name, value, says }) => {
      for (const [call, ask] of Object.entries(calls)) {
        const error = await refused(() => ask({ [name]: value }));
        expectRefusal(error, kind, `The setting ${name} of ${call}`, says);
      }
    },
  );

  test.each(valueRows)(
    "$name of $text makes the constructor throw a $kind.name",
    ({ kind, name, value, says }) => {
      const error = thrown(() => new Redlock(clients, { [name]: value }));
      expectRefusal(error, kind, `The setting ${name} of new Redlock()`, says);
    },
  );

  test("keyPrefix that is no string makes the constructor throw a TypeError", () => {
    for (const keyPrefix of [5, null, ["a"], {}]) {
      const error = thrown(() => new Redlock(clients, { keyPrefix: keyPrefix as string }));
      expectRefusal(error, TypeError, "keyPrefix of new Redlock()", "must be a string");
    }
  });

  test("a lock on other nodes is refused by extend and release, and stays held", async () => {
    const lock = await new Redlock(clients, { nodeTimeout: 5000 }).acquire(fresh(), 60_000);
    const prefixed = new Redis({ port: defined(servers[2]).port, keyPrefix: "app:" });
    const others: NodeEntry[][] = [
      clients.slice(0, 2),
      [...clients.slice(0, 2), "redis://localhost:1"],
      [...clients, "redis://localhost:1"],
      // Another database of the same servers, and other keys in the same one.
      servers.map(({ url }) => `${url}/1`),
      [...clients.slice(0, 2), prefixed],
    ];
    for (const entries of others) {
      const other = new Redlock(entries);
      for (const call of ["extend", "release"] as const) {
        const error = await rejection(
          call === "extend" ? other.extend(lock, 60_000) : other.release(lock),
        );
        expectRefusal(error, TypeError, `${call}()`, "other nodes", "Redlock that acquired it");
      }
      await other[Symbol.asyncDispose]();
    }
    prefixed.disconnect();
    expect(lock.valid).toBe(true);
    await lock.release();
  });

  test("a lock on the same nodes is taken, whichever clients or URLs lead there, in any order", async () => {
    const doubles = clients.map((client) => client.duplicate());
    const urls = servers.map(({ url }) => url);
    const entries: NodeEntry[][] = [clients.toReversed(), doubles, urls, urls.toReversed()];
    const redlocks = entries.map((nodes) => new Redlock(nodes, { nodeTimeout: 5000 }));
    for (const one of redlocks) {
      for (const other of redlocks) {
        const lock = await one.acquire(fresh(), 60_000);
        // Else the release, on other connections, could come to the last node before the acquire.
        await untilHeld(servers, lock);
        expect(await other.extend(lock, 60_000)).toBe(lock);
        await other.release(lock);
        await untilFree(servers, defined(lock.resources[0]));
      }
    }
    const lock = await redlock.acquire(fresh(), 60_000);
    const adopted = defined(redlocks[2]).adopt(lock.toJSON());
    await redlock.extend(adopted, 60_000);
    await redlock.release(adopted);
    for (const one of redlocks) await one[Symbol.asyncDispose]();
    disconnectAll(doubles);
  });

  test("a lock of another keyPrefix is refused by extend and release, and stays held", async () => {
    const lock = await new Redlock(clients, { keyPrefix: "a:" }).acquire(fresh(), 60_000);
    const other = new Redlock(clients, { keyPrefix: "b:" });
    const calls = { extend: () => other.extend(lock, 60_000), release: () => other.release(lock) };
    for (const [name, call] of Object.entries(calls)) {
      const error = await rejection(call());
      expectRefusal(error, TypeError, `${name}()`, "keyPrefix", "Redlock that acquired the lock");
    }
    expect(lock.valid).toBe(true);
    await lock.extend(60_000);
    const [resource] = lock.resources;
    // What a caller does to its own list changes no key.
    lock.resources.pop();
    expect((await lock.release()).attempts).toHaveLength(1);
    expect(await valuesOn(servers, `a:${resource ?? ""}`)).toEqual(servers.map(() => null));
  });

  test("of the constructor alone is taken by every call where it is the same, as in its own settings", async () => {
    // A guard of 1 ms holds a server back whose uptime, in whole seconds, may be zero as told two seconds ago.
    await until(
      async () => (await Promise.all(servers.map(uptimeS))).every((s) => s >= 3),
      10_000,
      () => "a server has not been up for 3 s",
    );
    for (const restartGuard of [undefined, 1, false] as const) {
      const own = new Redlock(clients, { keyPrefix: "own:", restartGuard });
      const all = { ...own.settings, retryCount: 0 };
      const lock = await own.acquire(fresh(), TTL_MS, all);
      await own.extend(lock, TTL_MS, all);
      await own.release(lock, all);
      const same: RedlockSettings = { ...all, keyPrefix: undefined };
      await own.using(fresh(), TTL_MS, same, () => undefined);
      expect(await own.tryAcquire(fresh(), TTL_MS, all)).not.toBeNull();
    }
  });

  test("keyPrefix is refused by every call: it is the constructor's", async () => {
    for (const [call, ask] of Object.entries(calls)) {
      const settings: RedlockSettings = { keyPrefix: "a:" };
      const error = await refused(() => ask(settings));
      expectRefusal(error, TypeError, call, "keyPrefix", "Make another Redlock");
    }
  });

  test.each([
    [RangeError, 0, "must be a whole number of at least 1"],
    [RangeError, Infinity, "must be a whole number of at least 1"],
    [TypeError, 1.5, "Round it"],
    [TypeError, true, "must be a number, but is a value of type boolean"],
    [TypeError, null, "must be a number, but is null"],
  ])("restartGuard makes the constructor throw a %p where it is %p", (kind, restartGuard, says) => {
    const settings = { restartGuard: restartGuard as number };
    const error = thrown(() => new Redlock(clients, settings));
    expectRefusal(error, kind, "restartGuard of new Redlock()", says);
  });

  test("restartGuard is refused by every call: it is the constructor's", async () => {
    for (const [call, ask] of Object.entries(calls)) {
      const settings: RedlockSettings = { restartGuard: false };
      const error = await refused(() => ask(settings));
      expectRefusal(error, TypeError, call, "restartGuard", "Make another Redlock");
    }
  });

  const slips: [string, string][] = [
    ["driftfactor", "driftFactor"],
    ["retryCounts", "retryCount"],
    ["retrycount", "retryCount"],
    ["retryDelayMs", "retryDelay"],
    ["retryJiter", "retryJitter"],
    ["acquireTimout", "acquireTimeout"],
    ["nodeTimeoutMs", "nodeTimeout"],
    ["automaticExtensionTreshold", "automaticExtensionThreshold"],
    ["singal", "signal"],
    ["keyprefix", "keyPrefix"],
    ["restartguard", "restartGuard"],
  ];

  test.each(slips)(
    "%s is refused by every call as unknown, and %s is offered",
    async (slip, known) => {
      for (const [call, ask] of Object.entries(calls)) {
        const settings: object = { [slip]: 1 };
        const error = await refused(() => ask(settings));
        expectRefusal(error, TypeError, call, `no setting ${slip}.`, `Did you mean ${known}?`);
      }
      const settings: object = { [slip]: 1 };
      const error = thrown(() => new Redlock(clients, settings));
      expectRefusal(error, TypeError, "new Redlock()", slip, `Did you mean ${known}?`);
    },
  );

  test("of a name that every object has is unknown, too", async () => {
    for (const name of ["constructor", "toString", "hasOwnProperty", "__proto__"]) {
      const settings = JSON.parse(`{ "${name}": 1 }`) as object;
      expectRefusal(
        await refused(() => redlock.acquire(fresh(), TTL_MS, settings)),
        TypeError,
        name,
      );
      expectRefusal(
        thrown(() => new Redlock(clients, settings)),
        TypeError,
        name,
      );
    }
  });

  const noSettings: [string, unknown][] = [
    ["null", null],
    ["a string", "retryCount"],
    ["a number", 5],
    ["a boolean", true],
    ["an array", [{ retryCount: 1 }]],
    ["a function", neverRun],
  ];

  test.each(noSettings)("comes in an object: %s is refused by every call", async (_, settings) => {
    for (const [call, ask] of Object.entries(calls)) {
      // For using() a function in this place is the routine.
      if (call === "using()" && typeof settings === "function") continue;
      const error = await refused(() => ask(settings as Settings));
      expectRefusal(error, TypeError, `The settings of ${call} must be an object`);
    }
  });

  test.each(noSettings)("comes in an object: %s makes the constructor throw", (_, settings) => {
    const error = thrown(() => new Redlock(clients, settings as RedlockSettings));
    expectRefusal(error, TypeError, "The settings of new Redlock() must be an object");
  });

  test("comes in an object: an AbortSignal in its place is refused by every call", async () => {
    for (const [call, ask] of Object.entries(calls)) {
      const error = await refused(() => ask(new AbortController().signal as Settings));
      expectRefusal(
        error,
        TypeError,
        `The settings of ${call} are an AbortSignal. Pass { signal }`,
      );
    }
  });

  test("that is undefined stands for its default", async () => {
    const settings: Settings = { retryCount: undefined, driftFactor: undefined, signal: undefined };
    expect(new Redlock(clients, settings).settings).toEqual(new Redlock(clients).settings);
    await (await redlock.acquire(fresh(), TTL_MS, settings)).release();
  });

  test("that is garbage is refused, or has a meaning: never does a call hang", async () => {
    const names = fc.constantFrom(...Object.keys(redlock.settings));
    const value = fc.oneof(
      fc.anything(),
      fc.integer({ min: -3, max: 2000 }),
      fc.double({ min: -1, max: 2 }),
    );
    const garbage = fc.dictionary(fc.oneof({ weight: 9, arbitrary: names }, fc.string()), value, {
      minKeys: 1,
      maxKeys: 3,
    });
    const outcomes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(garbage, async (settings) => {
        const resource = fresh("garbage");
        try {
          const taken = await redlock.tryAcquire(resource, TTL_MS, settings);
          outcomes.add("taken");
          await taken?.release();
        } catch (error) {
          const { code } = error as { code?: string };
          outcomes.add(String(code));
          if (code === "ERR_REDLOCK_INVALID_ARGUMENT") {
            expectNothingSent(resource);
            const kind = error instanceof RangeError ? RangeError : TypeError;
            expectRefusal(error, kind, "tryAcquire()");
          } else {
            // A node had a millisecond or so to answer in.
            expect(code).toBe("ERR_REDLOCK_QUORUM");
          }
        }
      }),
      { ...SCALE, timeout: 20_000 },
    );
    expect(outcomes).toContain("ERR_REDLOCK_INVALID_ARGUMENT");
    expect(outcomes).toContain("taken");
  });
});

describe("the options of a call that asks who holds a lock", () => {
  test.each([
    ["an unknown one", { permit: 3 }, "knows no option permit. Its only one is permits."],
    ["no object", 5, "must be an object"],
    ["null", null, "must be an object, but are null"],
  ])("are refused: %s", async (_, options, message) => {
    for (const call of ["inspect", "holder", "forceRelease"] as const) {
      const error = await rejection(redlock[call]("a", options as never));
      expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
      expect(error.message).toContain(`${call}()`);
      expect(error.message).toContain(message);
    }
  });
});

describe("using()", () => {
  test.each([
    ["nothing", undefined],
    ["null", null],
    ["an object", {}],
    ["a string", "work"],
    ["a promise", Promise.resolve()],
  ])("with %s in place of a function is refused with a TypeError", async (_, routine) => {
    const says = ["routine is not a function.", "using() needs one to run under the lock"];
    const withSettings = await refused(() =>
      redlock.using(fresh(), TTL_MS, {}, routine as () => void),
    );
    expectRefusal(withSettings, TypeError, ...says);
    const without = await refused(() => redlock.using(fresh(), TTL_MS, routine as () => void));
    expectRefusal(without, TypeError, ...says);
  });

  const v5Sentence =
    "A lock `duration` must be at least 100ms greater than the `automaticExtensionThreshold` setting.";

  test("with a threshold too near the ttl is refused with a RangeError", async () => {
    for (const automaticExtensionThreshold of [4901, 5000, 60_000]) {
      const settings = { automaticExtensionThreshold };
      const error = await refused(() => redlock.using(fresh(), 5000, settings, neverRun));
      expectRefusal(error, RangeError, "5000 ms", `${automaticExtensionThreshold} ms`, "lower");
      expect(error.message.startsWith(v5Sentence)).toBe(true);
    }
    const settings = { automaticExtensionThreshold: 4900 };
    expect(await redlock.using(fresh(), 5000, settings, () => "ran")).toBe("ran");
  });

  test("with a ttl too near the constructor's threshold is refused, where acquire() is not", async () => {
    const other = new Redlock(clients, { automaticExtensionThreshold: 1000, nodeTimeout: 5000 });
    const error = await refused(() => other.using(fresh(), 1099, neverRun));
    expectRefusal(error, RangeError, "1099 ms", "1000 ms");
    expect(error.message.startsWith(v5Sentence)).toBe(true);
    expect(await other.using(fresh(), 1100, () => "ran")).toBe("ran");
    await (await other.acquire(fresh(), 1099)).release();
  });
});

describe("a lock", () => {
  const calls: Record<string, (none: Lock) => Promise<unknown>> = {
    "extend()": (none) => redlock.extend(none, TTL_MS),
    "release()": (none) => redlock.release(none),
  };
  const rows: [string, () => unknown][] = [
    ["undefined", () => undefined],
    ["null", () => null],
    ["a resource's name", () => "resource"],
    ["an empty object", () => ({})],
    ["a copy of a lock", () => Object.assign({}, lock)],
    ["an object whose prototype is a lock", () => Object.create(lock) as unknown],
    ["a lock's data", () => lock.toJSON()],
    [
      "a lock of node-redlock's shape",
      () => Object.assign({}, lock, { expiration: Date.now() + 5000 }),
    ],
    ["a promise of a lock", () => Promise.resolve(lock)],
  ];
  const table = Object.entries(calls).flatMap(([name, call]) =>
    rows.map(([text, none]) => ({ name, call, text, none })),
  );

  test.each(table)(
    "that is $text is refused by $name with a TypeError, and nothing is sent",
    async ({ name, call, none }) => {
      const error = await refused(() => call(none() as Lock));
      expectRefusal(error, TypeError, `${name} needs a lock`, "adopt(lock.toJSON())");
    },
  );

  test("that is anything else is refused by extend() and release()", async () => {
    await fc.assert(
      fc.asyncProperty(fc.anything(), async (none) => {
        for (const call of Object.values(calls)) {
          expectRefusal(await refused(() => call(none as Lock)), TypeError);
        }
      }),
      SCALE,
    );
  });
});

describe("adopt()", () => {
  test("throws at once, a TypeError or a RangeError, whatever it is given", () => {
    fc.assert(
      fc.property(
        fc.anything({ withNullPrototype: true, withSparseArray: true, withMap: true }),
        (json) => {
          expectRefusal(
            thrown(() => redlock.adopt(json as LockJson)),
            TypeError,
            "adopt()",
          );
        },
      ),
      SCALE,
    );
  });
});

describe("the constructor", () => {
  let listener: net.Server;
  let url: string;
  let connections: net.Socket[];

  beforeAll(async () => {
    connections = [];
    listener = net.createServer((socket) => {
      connections.push(socket.on("error", () => undefined));
    });
    listener.listen(0, "127.0.0.1");
    await once(listener, "listening");
    url = `redis://127.0.0.1:${portOf(listener)}`;
  });

  afterAll(async () => {
    for (const socket of connections) socket.destroy();
    listener.close();
    await once(listener, "close");
  });

  function portOf(server: net.Server): number {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    return address.port;
  }

  /** Connections arrive in their order: what was there before this one is there when this one is. */
  async function expectNoConnection(): Promise<void> {
    await turnOfTheLoop();
    await turnOfTheLoop();
    const before = connections.length;
    const last = net.connect(portOf(listener), "127.0.0.1");
    try {
      await until(
        () => connections.length > before,
        5000,
        () => "the listener accepts no connection",
      );
      expect(connections.map(({ remotePort }) => remotePort)).toEqual([last.localPort]);
    } finally {
      last.destroy();
      for (const socket of connections.splice(0)) socket.destroy();
    }
  }

  const noNodes: [string, unknown, string][] = [
    ["an empty array", [], "at least one redis client"],
    ["an empty Set", new Set(), "at least one redis client"],
    ["undefined", undefined, "an array, or another iterable, of nodes"],
    ["null", null, "an array, or another iterable, of nodes"],
    ["a number", 5, "an array, or another iterable, of nodes"],
    ["an object", { host: "127.0.0.1" }, "an array, or another iterable, of nodes"],
    ["a lone URL", "redis://127.0.0.1:6379", "an array, or another iterable, of nodes"],
    ["a function", neverRun, "an array, or another iterable, of nodes"],
  ];

  test.each(noNodes)("throws a TypeError for nodes that are %s", (_, nodes, says) => {
    const error = thrown(() => new Redlock(nodes as NodeEntry[]));
    expectRefusal(error, TypeError, "Redlock", says);
  });

  test("throws a TypeError for a lone client in place of an array", () => {
    const error = thrown(() => new Redlock(defined(clients[0]) as unknown as NodeEntry[]));
    expectRefusal(error, TypeError, "an array, or another iterable, of nodes");
  });

  test("takes any iterable of nodes", () => {
    const indexesOf = ({ clients: taken }: Redlock): number[] =>
      clients.map((client) => [...taken].indexOf(client));
    expect(indexesOf(new Redlock(new Set(clients)))).toEqual([0, 1, 2]);
    function* one(): Generator<NodeEntry> {
      yield* clients;
    }
    expect(indexesOf(new Redlock(one()))).toEqual([0, 1, 2]);
  });

  const call = (): Promise<unknown> => Promise.resolve();
  const noClients: [string, unknown][] = [
    ["undefined", undefined],
    ["null", null],
    ["a number", 6379],
    ["an empty object", {}],
    ["an options object", { host: "127.0.0.1", port: 6379 }],
    ["an array of a URL", ["redis://127.0.0.1:6379"]],
    ["a URL object", new URL("redis://127.0.0.1:6379")],
    ["a function", neverRun],
    // What a client of node-redis has.
    ["a client of another library", { isOpen: true, connect: call, quit: call, sendCommand: call }],
    ["a client without a method that is used", { status: "ready", connect: call, quit: call }],
  ];

  test.each(noClients)("throws a TypeError that names the entry for %s", async (_, entry) => {
    const error = thrown(() => new Redlock([url, entry as NodeEntry, ...clients]));
    expectRefusal(error, TypeError, "nodes[1]", "redis:// URL");
    await expectNoConnection();
  });

  const noUrls = [
    "",
    " ",
    "hunter2",
    "localhost",
    "localhost:6379",
    "127.0.0.1:6379",
    "http://:hunter2@127.0.0.1:6379",
    "tcp://:hunter2@127.0.0.1:6379",
    "redis:",
    "redis://",
    "redis://:hunter2@",
    "redis:/:hunter2@127.0.0.1",
    "redis://:hunter2@127.0.0.1:port",
    "redis://:hunter2@127.0.0.1:99999",
    "redis://:hunter2%ZZ@127.0.0.1:6379",
    "redis://:hunter2@127.0.0.1:6379:6380",
    "redis://127.0.0.1:6379/hunter2",
    "redis://127.0.0.1:6379?db=hunter2",
    // A command of a client with an offline queue waits there, and a number for a timeout stays a text.
    "redis://127.0.0.1:6379?enableOfflineQueue=hunter2",
    "redis://127.0.0.1:6379?connectTimeout=3000&password=hunter2",
    "redis://127.0.0.1:6379?keyPrefix=hunter2",
    "redis://127.0.0.1:6379?db=",
    "redis://127.0.0.1:6379?family=hunter2",
    "redis://127.0.0.1:6379?constructor=hunter2",
    "redis://hunter2:6379?secret@127.0.0.1",
  ];

  test.each(noUrls)(
    "throws a TypeError for the URL %j, without its text, and connects to no other",
    async (text) => {
      const error = thrown(() => new Redlock([url, text]));
      expectRefusal(error, TypeError, "nodes[1]", "redis://host:port");
      expect((error as Error).message).not.toContain("hunter2");
      await expectNoConnection();
    },
  );

  test("throws a TypeError that names both entries for the same client twice", () => {
    const [a, b, c] = clients.map((client) => client as NodeEntry);
    const error = thrown(() => new Redlock([a, b, c, b].map(defined)));
    expectRefusal(error, TypeError, "nodes[3] is the same client as nodes[1].", "independent");
  });

  const twice: [string, (port: number) => string][] = [
    ["as it is", (port) => `redis://127.0.0.1:${port}`],
    ["with credentials", (port) => `redis://user:hunter2@127.0.0.1:${port}`],
    ["with a slash", (port) => `redis://127.0.0.1:${port}/`],
    ["with a database", (port) => `redis://127.0.0.1:${port}/0`],
    ["with another database", (port) => `redis://127.0.0.1:${port}/1`],
    ["with options", (port) => `redis://127.0.0.1:${port}?family=4`],
  ];

  test.each(twice)("throws a TypeError for the same URL twice, %s", async (_, again) => {
    const entries = [url, ...clients, again(portOf(listener))];
    const error = thrown(() => new Redlock(entries));
    expectRefusal(error, TypeError, "nodes[4] is the same server as nodes[0].", "independent");
    expect((error as Error).message).not.toContain("hunter2");
    await expectNoConnection();
  });

  test("throws a TypeError for the same URL twice with the usual port, spelled out or not", () => {
    const entries = ["redis://redis.invalid", "redis://REDIS.invalid:6379"];
    expectRefusal(
      thrown(() => new Redlock(entries)),
      TypeError,
      "nodes[1] is the same server as nodes[0].",
    );
  });

  test("connects to no node where a setting is refused", async () => {
    expectRefusal(
      thrown(() => new Redlock([url], { retryCount: -2 })),
      RangeError,
    );
    await expectNoConnection();
  });

  test("throws a TypeError of its own code for a third argument, with a pointer to the guide", () => {
    for (const scripts of [{}, { acquireScript: (script: string) => script }, null, "script"]) {
      const error = thrown(() => new Redlock(clients, {}, scripts));
      expect(error).toBeInstanceOf(TypeError);
      expect(error).toHaveProperty("code", "ERR_REDLOCK_SCRIPTS");
      expect((error as Error).message).toMatch(/third argument.*node-redlock/);
    }
  });

  test("throws a TypeError for whatever else is given as nodes", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.anything({ withNullPrototype: true }),
          fc.array(fc.anything(), { minLength: 1 }),
        ),
        (nodes) => {
          expectRefusal(
            thrown(() => new Redlock(nodes as NodeEntry[])),
            TypeError,
          );
        },
      ),
      SCALE,
    );
  });
});
