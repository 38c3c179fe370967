import { beforeAll, describe, expect, test } from "@jest/globals";
import { AsyncLocalStorage } from "node:async_hooks";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { hostname } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { type Lock, LockLostError, Redlock } from "../../src/index.js";
import { defined, fresh, rejection, untilFree, untilHeld, valuesOn } from "../support/nodes.js";
import { slowness, until } from "../support/servers.js";
import { useServersAndClients } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

const root = join(import.meta.dirname, "..", "..");
/** On a busy machine a reply may take long. */
const PATIENT = { nodeTimeout: 10_000 };

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients, PATIENT);
});

/** A ttl in which a lock is extended in time, also on a busy machine. */
function keptTtlMs(): number {
  return Math.ceil(3000 * slowness());
}

/** Notes when the lock's signal aborts, by the wall clock, and when its validity was to end. */
function watched(lock: Lock): { lock: Lock; expiration: number; abortedAt: number } {
  const watch = { lock, expiration: lock.expiration, abortedAt: Infinity };
  lock.signal.addEventListener("abort", () => {
    watch.abortedAt = Date.now();
  });
  return watch;
}

/**
 * Returns how late a timer was at most. Waits first until the last delay is measured. A timer can be held up before a
 * sample and, in the same turn, after it, so that it is late by two samples.
 */
async function latestMs(loopDelay: ReturnType<typeof monitorEventLoopDelay>): Promise<number> {
  await sleep(50);
  loopDelay.disable();
  // It samples once a ms, and the wall clock is read in whole ms.
  return (2 * loopDelay.max) / 1e6 + 2;
}

function acquireMany(count: number, ttlOf: (index: number) => number): Promise<Lock[]> {
  return Promise.all(
    Array.from({ length: count }, (_, index) => redlock.acquire(fresh(), ttlOf(index))),
  );
}

describe("the signal of a lock that nothing extends", () => {
  test("aborts before the validity ends, in 200 of 200", async () => {
    const loopDelay = monitorEventLoopDelay({ resolution: 1 });
    const locks = await acquireMany(200, (index) => 2000 + 10 * index);
    loopDelay.enable();
    const watches = locks.map(watched);
    await until(
      () => watches.every(({ abortedAt }) => abortedAt < Infinity),
      10_000,
      () => "a signal has not aborted",
    );
    const lateMs = await latestMs(loopDelay);
    for (const { lock, expiration, abortedAt } of watches) {
      expect(lock.signal.reason).toBeInstanceOf(LockLostError);
      expect(lock.signal.error).toBe(lock.signal.reason);
      expect(lock.valid).toBe(false);
      // Late by what the event loop was held up, and by nothing else.
      expect(abortedAt).toBeLessThanOrEqual(expiration + lateMs);
    }
  });

  test("aborts in the first turns after the event loop was blocked beyond the end, in 200 of 200", async () => {
    const locks = await acquireMany(200, () => 1000);
    const watches = locks.map(watched);
    const end = Math.max(...locks.map(({ expiration }) => expiration)) + 50;
    while (Date.now() < end);
    // Timers fire after the first of the two, at the latest.
    await turn();
    await turn();
    expect(watches.filter(({ abortedAt }) => abortedAt < Infinity)).toHaveLength(200);
  });

  test("is aborted when it is read, though the event loop was blocked until then", async () => {
    const locks = await acquireMany(20, () => 1000);
    const end = Math.max(...locks.map(({ expiration }) => expiration)) + 20;
    while (Date.now() < end);
    expect(locks.filter(({ signal }) => signal.aborted)).toHaveLength(20);
  });

  test("is aborted when code that had it before the block asks it, ahead of every timer", async () => {
    const locks = await acquireMany(20, () => 1000);
    const signals = locks.map(({ signal }) => signal);
    const end = Math.max(...locks.map(({ expiration }) => expiration)) + 20;
    while (Date.now() < end);
    for (const signal of signals.slice(0, 10)) {
      expect(() => {
        signal.throwIfAborted();
      }).toThrow(LockLostError);
    }
    expect(signals.filter(({ aborted }) => aborted)).toHaveLength(20);
    expect(signals.filter(({ reason }) => reason instanceof LockLostError)).toHaveLength(20);
  });

  test("aborts in the asynchronous context of its own call, also together with others", async () => {
    const context = new AsyncLocalStorage<number>();
    const seen = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        context.run(index, async () => {
          const { signal } = await redlock.acquire(fresh(), 400);
          return new Promise<number | undefined>((resolve) => {
            signal.addEventListener("abort", () => {
              resolve(context.getStore());
            });
          });
        }),
      ),
    );
    expect(seen).toEqual(seen.map((_, index) => index));
  });

  test("does not abort once the lock is released", async () => {
    const lock = await redlock.acquire(fresh(), 500);
    const { signal, expiration } = lock;
    await lock.release();
    await until(
      () => Date.now() > expiration + 50,
      5000,
      () => "time stands still",
    );
    expect(signal.aborted).toBe(false);
    expect(lock.signal).toBe(signal);
  });

  test("counts from the last extension, and from an adopted lock's first", async () => {
    const lock = await redlock.acquire(fresh(), 1000);
    const first = watched(lock);
    await lock.extend(3000);
    const adopted = redlock.adopt(lock.toJSON());
    const { signal } = adopted;
    await until(
      () => Date.now() > first.expiration + 200,
      5000,
      () => "time stands still",
    );
    expect(lock.signal.aborted).toBe(false);
    await adopted.extend(60_000);
    await until(
      () => lock.signal.aborted,
      10_000,
      () => "the extended lock's signal has not aborted",
    );
    expect(signal.aborted).toBe(false);
    await adopted.release();
  });

  test("aborts fetch and every other call that takes a signal", async () => {
    const lock = await redlock.acquire(fresh(), 400);
    const error = await rejection(sleep(60_000, undefined, { signal: lock.signal }));
    expect(error.cause).toBeInstanceOf(LockLostError);
  });
});

describe("autoExtend", () => {
  test("keeps the lock for many times its ttl, though a minority of the servers is frozen", async () => {
    const resource = fresh();
    const impatient = new Redlock(clients);
    const lock = await impatient.acquire(resource, 3000, { autoExtend: true });
    const frozen = servers.slice(0, 2);
    for (const server of frozen) await server.freeze();
    try {
      const end = performance.now() + 10_000;
      while (performance.now() < end) {
        expect(lock.signal.aborted).toBe(false);
        expect(lock.valid).toBe(true);
        await sleep(50);
      }
    } finally {
      for (const server of frozen) server.thaw();
    }
    await lock.release();
    await untilFree(servers, resource);
  });

  test("aborts the signal before the validity ends while a majority is frozen, and says why", async () => {
    const loopDelay = monitorEventLoopDelay({ resolution: 1 });
    const resource = fresh();
    const impatient = new Redlock(clients);
    const lock = await impatient.acquire(resource, 2000, { autoExtend: true });
    loopDelay.enable();
    const frozen = servers.slice(0, 3);
    for (const server of frozen) await server.freeze();
    try {
      const watch = watched(lock);
      await until(
        () => watch.abortedAt < Infinity,
        10_000,
        () => "the signal has not aborted",
      );
      expect(watch.abortedAt).toBeLessThanOrEqual(watch.expiration + (await latestMs(loopDelay)));
      expect(lock.valid).toBe(false);
      const { message, cause, reason } = lock.signal.reason as LockLostError;
      expect(message).toContain("could not be extended in time");
      expect(message).toContain("no answer");
      expect(cause).toMatchObject({ reason: "unavailable" });
      expect(reason).toBe("expired");
    } finally {
      for (const server of frozen) server.thaw();
    }
    await untilFree(servers, resource);
  });

  test("goes on until the end of an `await using` block", async () => {
    const resource = fresh();
    {
      const ttlMs = keptTtlMs();
      await using lock = await redlock.acquire(resource, ttlMs, { autoExtend: true });
      await sleep(ttlMs + 2000);
      expect(lock.valid).toBe(true);
      expect(await redlock.tryAcquire(resource, 3000)).toBeNull();
    }
    await untilFree(servers, resource);
  });

  test("is also of tryAcquire, and may be the default of a Redlock", async () => {
    const keeping = new Redlock(clients, { ...PATIENT, autoExtend: true });
    const ttlMs = keptTtlMs();
    const locks = [
      await redlock.tryAcquire(fresh(), ttlMs, { autoExtend: true }),
      await keeping.tryAcquire(fresh(), ttlMs),
      await keeping.acquire(fresh(), ttlMs),
    ].map(defined);
    const left = await keeping.acquire(fresh(), 500, { autoExtend: false });
    await sleep(ttlMs + 2000);
    expect(locks.map(({ valid }) => valid)).toEqual([true, true, true]);
    expect(left.valid).toBe(false);
    await Promise.all(locks.map((lock) => lock.release()));
  });

  test("refuses a ttl that is too short for the threshold, before anything is sent", async () => {
    const settings = { autoExtend: true, automaticExtensionThreshold: 450 };
    const error = await rejection(redlock.acquire(fresh(), 500, settings));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
  });

  test("of a process that was stopped beyond the end tells of the loss before anything else", async () => {
    const resource = fresh();
    const program = `
      import { Redlock } from "./src/index.ts";
      const redlock = new Redlock(${JSON.stringify(servers.map(({ url }) => url))}, { nodeTimeout: 5000 });
      const lock = await redlock.acquire("${resource}", 1500, { autoExtend: true });
      console.log("held");
      setInterval(() => {
        if (!lock.valid) {
          console.log(lock.signal.aborted, lock.signal.reason?.code);
          process.exit();
        }
        console.log("valid");
      }, 20);
    `;
    const child = spawn(process.execPath, programs.args(program), {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: "" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    const ended = once(child, "close");
    await until(
      () => output.includes("valid"),
      30_000,
      () => `the process holds no lock: ${output}`,
    );
    child.kill("SIGSTOP");
    // Only its keys' expiry, or another holder, can end it now.
    const next = await redlock.acquire(resource, 60_000, { acquireTimeout: 30_000 });
    const before = output.length;
    child.kill("SIGCONT");
    await ended;
    expect(output.slice(before)).toBe("true ERR_REDLOCK_LOST\n");
    expect(await valuesOn(servers, resource)).toContain(next.value);
    expect(next.valid).toBe(true);
    await next.release();
  });
});

describe("maxHold", () => {
  test("ends the extensions, so that the signal aborts in time, says so, and others get the lock", async () => {
    const loopDelay = monitorEventLoopDelay({ resolution: 1 });
    const resource = fresh();
    const lock = await redlock.acquire(resource, 1000, { autoExtend: true, maxHold: 2000 });
    const start = performance.now();
    const next = redlock.acquire(resource, 60_000, { acquireTimeout: 30_000 });
    let extendedAt = 0;
    redlock.on("extended", ({ lock: extended }) => {
      if (extended === lock) extendedAt = performance.now();
    });
    loopDelay.enable();
    await until(
      () => lock.signal.aborted,
      10_000,
      () => "the signal has not aborted",
    );
    redlock.removeAllListeners("extended");
    const heldMs = performance.now() - start;
    const lateMs = await latestMs(loopDelay);
    expect(extendedAt).toBeGreaterThan(0);
    // It is extended whenever a third of the ttl is left, so that it ends within a ttl of its maxHold on either side.
    expect(heldMs).toBeGreaterThan(2000 - 1000);
    expect(heldMs).toBeLessThan(2000 + 1000 + 2 * lateMs + 100);
    expect(lock.signal.reason).toBeInstanceOf(LockLostError);
    expect((lock.signal.reason as Error).message).toContain("its maxHold of 2.0 s");
    await (await next).release();
  });

  test("is a setting of using as well", async () => {
    const error = await rejection(
      redlock.using(fresh(), 500, { maxHold: 300 }, (signal) =>
        sleep(30_000, undefined, { signal }).catch(() => undefined),
      ),
    );
    expect(error.code).toBe("ERR_REDLOCK_LOST");
    expect(error.message).toContain("its maxHold of 300 ms");
  });

  test.each([[0], [1.5], [-1], ["1000"]])("refuses %p", async (maxHold) => {
    const settings = { autoExtend: true, maxHold: maxHold as number };
    expect((await rejection(redlock.acquire(fresh(), 500, settings))).code).toBe(
      "ERR_REDLOCK_INVALID_ARGUMENT",
    );
  });
});

describe("the owner", () => {
  test("is this process, unless there is a setting, and stands in the value on every node", async () => {
    const lock = await redlock.acquire(fresh(), 60_000);
    const own = `${hostname()}/${process.pid}`;
    expect(lock.value).toMatch(/^[0-9a-f]{32} /);
    expect(lock.value.slice(33)).toBe(own);
    await untilHeld(servers, lock);
    for (const { resources } of await redlock.inspect(lock.resources)) {
      expect(resources[0]).toMatchObject({ value: lock.value, owner: own });
    }
    await lock.release();
  });

  test.each([["api-7/4211"], ["~".repeat(200)], ["!"]])("may be %p", async (owner) => {
    const named = new Redlock(clients, { ...PATIENT, owner });
    const lock = await named.acquire(fresh(), 60_000);
    expect(lock.value.slice(33)).toBe(owner);
    expect((await redlock.holder(defined(lock.resources[0])))?.owner).toBe(owner);
    await lock.extend(30_000);
    await lock.release();
    await untilFree(servers, defined(lock.resources[0]));
  });

  test("may be none: the value is then 32 digits, as node-redlock's has 32 and more", async () => {
    const nameless = new Redlock(clients, { ...PATIENT, owner: "" });
    const lock = await nameless.acquire(fresh(), 60_000);
    expect(lock.value).toMatch(/^[0-9a-f]{32}$/);
    await untilHeld(servers, lock);
    for (const { resources } of await redlock.inspect(lock.resources)) {
      expect(resources[0]).not.toHaveProperty("owner");
    }
    expect((await redlock.holder(defined(lock.resources[0])))?.owner).toBeUndefined();
    await lock.release();
  });

  test.each([
    ["two words", RangeError],
    ["ключ", RangeError],
    ["tab\t", RangeError],
    ["x".repeat(201), RangeError],
    [7, TypeError],
    [null, TypeError],
  ])("cannot be %p", (owner, kind) => {
    const make = (): Redlock => new Redlock(clients, { owner: owner as string });
    expect(make).toThrow(kind);
    expect(make).toThrow("owner");
  });

  test("is no setting of a call", async () => {
    const settings = { owner: "other" } as object;
    const error = await rejection(redlock.acquire(fresh(), 500, settings));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain("setting of the constructor");
  });
});

test("using refuses a fourth argument behind a routine: it would be ignored", async () => {
  const loose = redlock as unknown as { using(...args: unknown[]): Promise<unknown> };
  const resource = fresh();
  let ran = false;
  const routine = (): void => {
    ran = true;
  };
  const error = await rejection(loose.using(resource, 5000, routine, { retryCount: 0 }));
  expect(error).toBeInstanceOf(TypeError);
  expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
  expect(error.message).toContain("using(resources, ttl, settings, routine)");
  expect(ran).toBe(false);
  expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(null));
});
