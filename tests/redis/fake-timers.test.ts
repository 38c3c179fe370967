import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { install } from "@sinonjs/fake-timers";
import { Redlock } from "../../src/index.js";
import { connectAll, fresh, rejection } from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";

// A call without an answer is the failure here.
const TTL_MS = 60_000;

const servers = useServers(3);
let redlock: Redlock;

beforeEach(async () => {
  redlock = new Redlock(await connectAll(servers));
});

afterEach(async () => {
  await redlock.quit();
});

const realNextTick = process.nextTick.bind(process);

/** The library starts its timers at the end of a turn. */
function turnEnds(): Promise<void> {
  return new Promise((resolve) => {
    realNextTick(resolve);
  });
}

/** How fake timers are put in place of the real ones; gives what takes them away. */
const fakes: Record<string, () => { advance(ms: number): void; end(): void }> = {
  "Jest's": () => {
    jest.useFakeTimers();
    return {
      advance: (ms) => {
        jest.advanceTimersByTime(ms);
      },
      end: () => {
        jest.useRealTimers();
      },
    };
  },
  "Sinon's": () => {
    const clock = install({ now: Date.now() });
    return {
      advance: (ms) => {
        clock.tick(ms);
      },
      end: () => {
        clock.uninstall();
      },
    };
  },
};

test.each(Object.keys(fakes))(
  "under %s fake timers each call has its answer, and so has each call after them",
  async (whose) => {
    const resource = fresh();
    const fake = fakes[whose]?.();
    try {
      const lock = await redlock.acquire(resource, TTL_MS);
      await lock.extend(TTL_MS);
      // The lock's time is the test's.
      const { remaining } = lock;
      fake?.advance(1000);
      expect(lock.remaining).toBe(remaining - 1000);
      await lock.release();
      expect(await redlock.using(resource, TTL_MS, () => "done")).toBe("done");
    } finally {
      fake?.end();
    }
    expect(await redlock.using(resource, TTL_MS, () => "done")).toBe("done");
  },
);

test.each(Object.keys(fakes))(
  "%s fake timers decide when a node's time is over, and each vote against is told meanwhile",
  async (whose) => {
    const errors: unknown[] = [];
    redlock.on("error", (error) => errors.push(error));
    await Promise.all(servers.map((server) => server.freeze()));
    const fake = fakes[whose]?.();
    try {
      const acquiring = rejection(redlock.tryAcquire(fresh(), TTL_MS, { nodeTimeout: 5000 }));
      await turnEnds();
      fake?.advance(5000);
      expect((await acquiring).message).toContain("no answer in 5.0 s");
      expect(errors).toHaveLength(3);
    } finally {
      fake?.end();
      for (const server of servers) server.thaw();
    }
  },
);
