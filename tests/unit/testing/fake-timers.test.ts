import { afterEach, beforeEach, describe, expect, jest, test } from "@jest/globals";
import { type Clock, install } from "@sinonjs/fake-timers";
import { LockLostError, Redlock } from "../../../src/index.js";
import { memoryNodes } from "../../../src/testing/index.js";
import { defined } from "../../support/nodes.js";

const TTL_MS = 10_000;

/** As Vitest's before version 3. The library's waiters and its restart guard then go by the real monotonic clock. */
const WITHOUT_PERFORMANCE = "Sinon's, without `performance`,";

interface Fake {
  readonly advance: (ms: number) => Promise<unknown>;
  readonly end: () => void;
}

/** How tests put fake timers in place of the real ones. */
const fakes: Readonly<Record<string, (now?: number) => Fake>> = {
  "Jest's": (now = Date.now()) => {
    jest.useFakeTimers({ now });
    return {
      advance: (ms) => jest.advanceTimersByTimeAsync(ms),
      end: () => {
        jest.useRealTimers();
      },
    };
  },
  // Everything is faked, the end of a turn included.
  "Sinon's": (now = Date.now()) => {
    const clock = install({ now });
    return {
      advance: (ms) => clock.tickAsync(ms),
      end: () => {
        clock.uninstall();
      },
    };
  },
  [WITHOUT_PERFORMANCE]: (now = Date.now()) => {
    const clock = install({
      now,
      toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date"],
    });
    return {
      advance: (ms) => clock.tickAsync(ms),
      end: () => {
        clock.uninstall();
      },
    };
  },
};

let nodes: ReturnType<typeof memoryNodes<5>>;
let redlock: Redlock;
let fake: Fake | undefined;

beforeEach(() => {
  nodes = memoryNodes(5);
  redlock = new Redlock(nodes);
});

afterEach(async () => {
  for (const node of nodes) {
    node.delay(0);
    await node.thaw();
  }
  await redlock.quit();
  fake?.end();
  fake = undefined;
});

describe.each(Object.keys(fakes))("under %s fake timers", (whose) => {
  const start = (now?: number): Fake => {
    fake = defined(fakes[whose])(now);
    return fake;
  };

  test("each call has its answer without a timer", async () => {
    start();
    const lock = await redlock.acquire("a", TTL_MS, { fencing: true });
    await lock.extend(TTL_MS);
    expect(await redlock.tryAcquire("a", TTL_MS)).toBeNull();
    expect((await redlock.inspect("a"))[0]?.resources[0]?.value).toBe(lock.value);
    const findings = (await redlock.health()).flatMap((node) => node.findings);
    // Without a fake `performance`, a busy machine is slow.
    expect(findings.filter((finding) => !finding.startsWith("is slow"))).toEqual([]);
    await lock.release();
    expect(await redlock.using("a", TTL_MS, () => "done")).toBe("done");
  });

  test("a release hands over to the waiters without a timer", async () => {
    start();
    const order: string[] = [];
    const waiting = ["first", "second", "third"].map((name) =>
      redlock.using("a", TTL_MS, () => void order.push(name)),
    );
    await Promise.all(waiting);
    expect(order).toEqual(["first", "second", "third"]);
  });

  test("a lock expires on the nodes when the test's time passes, and not before", async () => {
    const { advance } = start();
    await redlock.acquire("a", TTL_MS);
    await advance(TTL_MS - 1);
    expect(await redlock.tryAcquire("a", TTL_MS)).toBeNull();
    await advance(2);
    expect((await redlock.tryAcquire("a", TTL_MS))?.valid).toBe(true);
  });

  test("a lock expires also where the test's time begins in the past", async () => {
    const { advance } = start(Date.UTC(2020, 1, 29));
    await redlock.acquire("a", TTL_MS);
    await advance(TTL_MS - 1);
    expect(await redlock.tryAcquire("a", TTL_MS)).toBeNull();
    await advance(2);
    expect((await redlock.tryAcquire("a", TTL_MS))?.valid).toBe(true);
  });

  test("a lock that was acquired before expires in the test's time", async () => {
    await redlock.acquire("a", TTL_MS);
    const { advance } = start();
    await advance(TTL_MS / 2);
    expect(await redlock.tryAcquire("a", TTL_MS)).toBeNull();
    await advance(TTL_MS / 2 + 1);
    expect((await redlock.tryAcquire("a", TTL_MS))?.valid).toBe(true);
  });

  test("`using` extends its lock for as long as the function takes", async () => {
    const { advance } = start();
    await redlock.using("a", TTL_MS, async (signal) => {
      for (let count = 0; count < 10; count++) {
        await advance(TTL_MS);
        expect(signal.aborted).toBe(false);
        expect(await redlock.tryAcquire("a", TTL_MS)).toBeNull();
      }
    });
    expect((await redlock.tryAcquire("a", TTL_MS))?.valid).toBe(true);
  });

  test("`using` loses its lock when a majority of nodes is frozen, before the lock is free", async () => {
    const { advance } = start();
    const using = redlock.using("a", TTL_MS, async (signal, lock) => {
      for (const node of nodes.slice(2)) node.freeze();
      const aborted = new Promise((resolve) => {
        signal.addEventListener("abort", () => {
          resolve(lock.valid);
        });
      });
      await advance(TTL_MS);
      expect(signal.reason).toBeInstanceOf(LockLostError);
      await aborted;
      signal.throwIfAborted();
    });
    await expect(using).rejects.toBeInstanceOf(LockLostError);
  });

  test("a node's delay lasts as long as the test says", async () => {
    const { advance } = start();
    for (const node of nodes) node.delay(40);
    const startMs = performance.now();
    const acquiring = redlock.acquire("a", TTL_MS);
    await advance(40);
    const { remaining } = await acquiring;
    const freshMs = TTL_MS - (TTL_MS / 100 + 2);
    if (whose === WITHOUT_PERFORMANCE) {
      // The real time counts where it is longer, as on a busy machine.
      const elapsedMs = Math.max(40, Math.ceil(performance.now() - startMs));
      expect(remaining).toBeLessThanOrEqual(freshMs - 40);
      expect(remaining).toBeGreaterThanOrEqual(freshMs - elapsedMs);
    } else {
      expect(remaining).toBe(freshMs - 40);
    }
  });

  test("nothing stands still after they are gone", async () => {
    const { end, advance } = start();
    await redlock.acquire("a", TTL_MS);
    await advance(1000);
    end();
    fake = undefined;
    expect(await redlock.using("b", TTL_MS, () => "done")).toBe("done");
    const lock = await redlock.acquire("c", 50, { queue: false });
    const next = await redlock.acquire("c", TTL_MS, { acquireTimeout: TTL_MS });
    expect([lock.valid, next.valid]).toEqual([false, true]);
  });

  if (whose === WITHOUT_PERFORMANCE) return;

  test("a waiter gets the lock of a holder that has died", async () => {
    const { advance } = start();
    await redlock.acquire("a", TTL_MS);
    const next = redlock.acquire("a", TTL_MS, { acquireTimeout: 2 * TTL_MS });
    await advance(TTL_MS + 1000);
    expect((await next).valid).toBe(true);
  });

  test("a node that restarted votes again once the longest ttl has passed", async () => {
    const { advance } = start();
    await redlock.acquire("a", TTL_MS);
    for (const node of nodes.slice(2)) node.restart({ empty: true });
    await expect(redlock.tryAcquire("b", TTL_MS)).rejects.toMatchObject({
      code: "ERR_REDLOCK_QUORUM",
    });
    await advance(TTL_MS);
    expect((await redlock.tryAcquire("b", TTL_MS))?.valid).toBe(true);
  });
});

describe("with a fake Date alone", () => {
  const fakeDate = (): Clock => {
    const clock = install({ now: Date.now(), toFake: ["Date"] });
    const end = (): void => {
      clock.uninstall();
    };
    fake = { advance: (ms) => clock.tickAsync(ms), end };
    return clock;
  };

  test("a lock expires in real time while the date stands still", async () => {
    fakeDate();
    await redlock.acquire("a", 50);
    const next = await redlock.acquire("a", TTL_MS, { acquireTimeout: TTL_MS });
    expect(next.valid).toBe(true);
  });

  test("a lock expires when the test sets the date", async () => {
    const startMs = performance.now();
    const clock = fakeDate();
    const lock = await redlock.acquire("a", TTL_MS);
    // While the date stands still, the nodes count real time. 2 ms: the date has whole ms, and so has the clock.
    const realMs = Math.ceil(performance.now() - startMs);
    clock.setSystemTime(Date.now() + realMs + TTL_MS + 2);
    expect(lock.valid).toBe(false);
    expect((await redlock.tryAcquire("a", TTL_MS))?.valid).toBe(true);
  });
});
