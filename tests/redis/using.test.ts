import { beforeAll, describe, expect, test } from "@jest/globals";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, slowness, until } from "../support/servers.js";
import { LockLostError, Redlock } from "../../src/index.js";
import { movableClocks } from "../support/environment.js";
import { defined, fresh, occupy, rejection, untilFree, valuesOn } from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

/** On a busy machine a reply may take long. */
const PATIENT = { nodeTimeout: 10_000 };

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients);
});

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else {
      signal.addEventListener(
        "abort",
        () => {
          resolve();
        },
        { once: true },
      );
    }
  });
}

describe("using", () => {
  test("gives the routine's value, and releases", async () => {
    const resource = fresh();
    const value = await redlock.using([resource], 5000, async (signal, lock) => {
      expect(signal.aborted).toBe(false);
      expect(lock.valid).toBe(true);
      expect(
        (await valuesOn(servers, resource)).filter((held) => held === lock.value).length,
      ).toBeGreaterThanOrEqual(3);
      return "done";
    });
    expect(value).toBe("done");
    await untilFree(servers, resource);
  });

  test("keeps the lock for many times its ttl", async () => {
    const resource = fresh();
    const ttlMs = Math.ceil(1000 * slowness());
    await redlock.using(resource, ttlMs, async (signal, lock) => {
      const end = performance.now() + 3.5 * ttlMs;
      while (performance.now() < end) {
        expect(signal.aborted).toBe(false);
        expect(lock.valid).toBe(true);
        expect(await new Redlock(clients).tryAcquire(resource, 1000, PATIENT)).toBeNull();
        await sleep(50);
      }
    });
    await untilFree(servers, resource);
  });

  test("takes settings before the routine", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const error = await rejection(
      redlock.using(resource, 5000, { retryCount: 0 }, () => Promise.resolve("never")),
    );
    expect(error.attempts).toHaveLength(1);
  });

  test("rejects with what the routine threw, and releases", async () => {
    const resource = fresh();
    const own = new Error("the work failed");
    expect(await rejection(redlock.using(resource, 5000, () => Promise.reject(own)))).toBe(own);
    await untilFree(servers, resource);
  });

  test("extends when the given threshold is reached, not before", async () => {
    const resource = fresh();
    const extensions = (): number =>
      defined(clients[0]).sent.filter((line) => line.includes(resource) && line.endsWith(" 2000"))
        .length - 1;
    await redlock.using(resource, 2000, { automaticExtensionThreshold: 1000 }, async (_, lock) => {
      while (lock.remaining > 1200) {
        expect(extensions()).toBe(0);
        await sleep(10);
      }
      await until(
        () => extensions() === 1,
        2000,
        () => "no extension",
      );
    });
  });

  test("does not abort the running work with the waiting's signal", async () => {
    const controller = new AbortController();
    await redlock.using(fresh(), 5000, { signal: controller.signal }, async (signal) => {
      controller.abort();
      await sleep(20);
      expect(signal.aborted).toBe(false);
    });
  });

  test("is content where the routine released the lock itself", async () => {
    const value = await redlock.using(fresh(), 5000, async (_, lock) => {
      await lock.release();
      return 7;
    });
    expect(value).toBe(7);
  });
});

describe("a loss", () => {
  test("is said before the validity ends, while a majority hangs, though no reply ever comes", async () => {
    const resource = fresh();
    const loopDelay = monitorEventLoopDelay({ resolution: 1 });
    loopDelay.enable();
    let toldAt = 0;
    let expiration = 0;
    const outcome = rejection(
      redlock.using(resource, 2000, async (signal, lock) => {
        ({ expiration } = lock);
        signal.addEventListener("abort", () => {
          toldAt = Date.now();
        });
        for (const server of servers.slice(0, 3)) await server.freeze();
        await aborted(signal);
        expect(signal.reason).toBe(signal.error);
        expect(lock.valid).toBe(false);
      }),
    );
    const error = (await outcome) as unknown as LockLostError;
    for (const server of servers.slice(0, 3)) server.thaw();
    expect(error.name).toBe("LockLostError");
    expect(error.code).toBe("ERR_REDLOCK_LOST");
    expect(error.message).toContain("no answer");
    expect((error.cause as Error).message).toContain("quorum");
    // The monitor notes a delay when its own timer fires next.
    await sleep(20);
    // Late by what the event loop was held up, and by nothing else.
    expect(toldAt).toBeLessThanOrEqual(expiration + loopDelay.max / 1e6);
    await untilFree(servers, resource);
  });

  test("is said at once when a majority no longer holds the lock", async () => {
    const resource = fresh();
    await rejection(
      redlock.using(resource, 3000, async (signal, lock) => {
        await Promise.all(servers.slice(0, 3).map(({ port }) => ask(port, ["DEL", resource])));
        const { remaining } = lock;
        const start = performance.now();
        await aborted(signal);
        expect(performance.now() - start).toBeLessThan(remaining);
      }),
    );
    await untilFree(servers, resource);
  });

  test("lets the routine's own error win", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    const own = new Error("mine");
    const outcome = stepped.using(fresh(), 5000, () => {
      clocks.wallStepMs = 5000;
      return Promise.reject(own);
    });
    expect(await rejection(outcome)).toBe(own);
  });

  test("is found by a step of the wall clock within a second, without anybody asking", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    const error = await rejection(
      stepped.using(fresh(), 60_000, async (signal) => {
        clocks.wallStepMs = 60_000;
        const start = performance.now();
        await aborted(signal);
        expect(performance.now() - start).toBeLessThan(1000 + 2000);
      }),
    );
    expect(error.code).toBe("ERR_REDLOCK_LOST");
  });

  test("is found the moment somebody reads `valid`", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    await rejection(
      stepped.using(fresh(), 60_000, (signal, lock) => {
        clocks.monotonicStepMs = 60_000;
        expect(signal.reason).toBeUndefined();
        expect(lock.valid).toBe(false);
        expect(signal.reason).toBeInstanceOf(LockLostError);
      }),
    );
  });

  test("is found the moment somebody asks the signal", async () => {
    const clocks = movableClocks();
    const stepped = new Redlock(clients, clocks.settings);
    let hasPassed = false;
    const error = await rejection(
      stepped.using(fresh(), 60_000, (signal) => {
        expect(signal.aborted).toBe(false);
        clocks.monotonicStepMs = 60_000;
        signal.throwIfAborted();
        hasPassed = true;
      }),
    );
    expect(error).toBeInstanceOf(LockLostError);
    expect(hasPassed).toBe(false);
  });

  test("that the routine did not notice, with the event loop blocked, still rejects", async () => {
    const error = await rejection(
      redlock.using(fresh(), 400, () => {
        const end = performance.now() + 600;
        while (performance.now() < end);
        return "too late";
      }),
    );
    expect(error.code).toBe("ERR_REDLOCK_LOST");
    expect(error.message).toContain("event loop");
  });

  test("is survived by trying again: nodes that hang for less than what is left cost nothing", async () => {
    const resource = fresh();
    const value = await redlock.using(resource, 3000, async (signal, lock) => {
      for (const server of servers.slice(0, 3)) await server.freeze();
      // Until one extension has been tried and has failed.
      while (lock.remaining > 800) await sleep(10);
      for (const server of servers.slice(0, 3)) server.thaw();
      await until(
        () => lock.remaining > 1500 || signal.aborted,
        3000,
        () => "neither extended nor lost",
      );
      return signal.aborted;
    });
    expect(value).toBe(false);
    await untilFree(servers, resource);
  });
});

describe("the release by using", () => {
  test("is waited for no longer than nodeTimeout, and never the reason to reject", async () => {
    const nodeTimeout = 300;
    let end = 0;
    const value = await redlock.using(fresh(), 60_000, { nodeTimeout }, async () => {
      for (const server of servers.slice(0, 3)) await server.freeze();
      end = performance.now();
      return "value";
    });
    const waited = performance.now() - end;
    for (const server of servers.slice(0, 3)) server.thaw();
    expect(value).toBe("value");
    expect(waited).toBeLessThan(nodeTimeout + 1000);
  });
});
