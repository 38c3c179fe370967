import { describe, expect, it } from "@jest/globals";
import { Alarms } from "../../../src/runtime/alarms.js";
import { Handle } from "../../../src/algorithm/handle.js";
import { HeldLocks } from "../../../src/algorithm/held-locks.js";
import type { Instance } from "../../../src/algorithm/instance.js";
import type { Extending } from "../../../src/algorithm/keeper.js";
import { type Lock, LockLostError, partsOf } from "../../../src/lock.js";
import type { Environment } from "../../../src/runtime/environment.js";
import { type Client, played, type Stage } from "../../virtual-world/stage.js";

const failure = new Error("no quorum.");

interface Try {
  readonly remainingMs: number;
  readonly limitMs: number;
}

interface Kept {
  readonly client: Client;
  readonly lock: Lock;
  readonly handle: Handle;
  readonly tries: Try[];
  /** The delays of the timers that the keeper set. */
  readonly delays: number[];
  /** When the signal was aborted; undefined as long as it is not. */
  abortedMs: number | undefined;
}

/** Returns a handle of the lock whose alarms are its own. */
function handleOf(lock: Lock, environment: Environment): Handle {
  const instance = {
    draining: new AbortController().signal,
    alarms: new Alarms(environment, true),
    watchAlarms: new Alarms(environment, false),
    environment,
    held: new HeldLocks(),
    announce: () => undefined,
  };
  return new Handle(instance as unknown as Instance, partsOf(lock, "test").lease, () => lock);
}

/** A lock that is just acquired, and kept. */
async function keep(
  stage: Stage,
  ttlMs: number,
  extending: Partial<Omit<Extending, "extend">> & {
    readonly extend?: (lock: Lock) => Promise<Error | undefined>;
  } = {},
): Promise<Kept> {
  const client = await stage.connect();
  const lock = await client.redlock.acquire("r", ttlMs);
  const { extend = () => Promise.resolve(failure), ...others } = extending;
  const tries: Try[] = [];
  const delays: number[] = [];
  const { environment } = client.internals;
  const handle = handleOf(lock, {
    ...environment,
    setTimer: (callback, delayMs) => {
      delays.push(delayMs);
      return environment.setTimer(callback, delayMs);
    },
  });
  handle.keep({
    thresholdMs: 1000,
    pauseMs: () => 100,
    extend: (limitMs) => {
      tries.push({ remainingMs: lock.remaining, limitMs });
      return extend(lock);
    },
    ...others,
  });
  const kept: Kept = { client, lock, handle, tries, delays, abortedMs: undefined };
  handle.signal.addEventListener("abort", () => {
    kept.abortedMs = stage.nowMs;
  });
  return kept;
}

function extended(lock: Lock): Promise<Error | undefined> {
  return lock.extend(lock.ttl).then(
    () => undefined,
    (error: unknown) => error as Error,
  );
}

const never = (): Promise<never> => new Promise(() => undefined);

/** An alarm rings early by up to a hundredth of the ttl, which is 3000 ms, within 2 to 10 ms: with others. */
function expectEarly(remainingMs: number, thresholdMs: number): void {
  expect(remainingMs).toBeGreaterThanOrEqual(thresholdMs);
  expect(remainingMs).toBeLessThan(thresholdMs + 10);
}

describe("keeping a lock", () => {
  it(
    "extends it whenever the threshold is reached, and not before",
    played(async (stage) => {
      const { tries, lock, handle } = await keep(stage, 3000, { extend: extended });
      await stage.sleep(20_000);
      expect(tries).toHaveLength(10);
      for (const { remainingMs } of tries) expectEarly(remainingMs, 1000);
      expect(lock.valid).toBe(true);
      expect(handle.signal.aborted).toBe(false);
      expect(handle.loss).toBeUndefined();
      await lock.release();
    }),
  );

  it(
    "tries again after a pause of at most a quarter of what is left, each time for at most a third of it",
    played(async (stage) => {
      const { tries } = await keep(stage, 3000);
      await stage.sleep(3000);
      expect(tries.length).toBeGreaterThan(15);
      for (const [index, { remainingMs, limitMs }] of tries.entries()) {
        expect(limitMs).toBe(remainingMs / 3);
        const before = tries[index - 1]?.remainingMs;
        if (before === undefined) expectEarly(remainingMs, 1000);
        else expect(before - remainingMs).toBe(Math.ceil(Math.min(100, before / 4)));
      }
      expect(tries.at(-1)?.remainingMs).toBeLessThan(20);
    }),
  );

  it(
    "goes on without a pause once it was extended after a failure",
    played(async (stage) => {
      let failures = 2;
      const { tries, handle, lock } = await keep(stage, 3000, {
        extend: (lock) => (failures-- > 0 ? Promise.resolve(failure) : extended(lock)),
      });
      await stage.sleep(5000);
      const [first = 0, second, third, fourth = 0] = tries.map(({ remainingMs }) => remainingMs);
      expectEarly(first, 1000);
      expect([second, third]).toEqual([first - 100, first - 200]);
      expectEarly(fourth, 1000);
      expect(handle.loss).toBeUndefined();
      await lock.release();
    }),
  );

  it(
    "needs no pause after an extension that was granted",
    played(async (stage) => {
      const { tries, lock } = await keep(stage, 3000, { thresholdMs: 2940, extend: extended });
      await stage.sleep(200);
      expect(tries.length).toBeGreaterThanOrEqual(7);
      for (const { remainingMs } of tries) expectEarly(remainingMs, 2940);
      await lock.release();
    }),
  );

  it(
    "has one extension under way at a time, and sleeps meanwhile",
    played(async (stage) => {
      const { tries, delays, lock } = await keep(stage, 3000, {
        extend: async (lock) => {
          await stage.sleep(600);
          return extended(lock);
        },
      });
      await stage.sleep(2700);
      expect(tries).toHaveLength(1);
      expect(delays).toEqual([998, 960, 990, 998]);
      await lock.release();
    }),
  );

  it(
    "that is due from the beginning extends at once",
    played(async (stage) => {
      const { tries, lock } = await keep(stage, 3000, { thresholdMs: 2990, extend: never });
      expect(tries).toEqual([{ remainingMs: 2966, limitMs: 2966 / 3 }]);
      await lock.release();
    }),
  );
});

describe("a loss", () => {
  for (const { ttlMs, slackMs } of [
    { ttlMs: 150, slackMs: 2 },
    { ttlMs: 500, slackMs: 5 },
    { ttlMs: 3000, slackMs: 10 },
  ]) {
    it(
      `of a lock with a ttl of ${ttlMs} ms is said ${slackMs} ms before the end, though no extension ever ends`,
      played(async (stage) => {
        const kept = await keep(stage, ttlMs, { extend: never });
        const endMs = kept.lock.expiration - 1_000_000;
        await stage.sleep(ttlMs);
        expect(kept.abortedMs).toBe(endMs - slackMs);
        expect(kept.lock.valid).toBe(false);
        expect(kept.client.host.timers.size).toBe(0);
      }),
    );
  }

  it(
    "is the signal's reason and its error, and names the lock",
    played(async (stage) => {
      const { lock, handle } = await keep(stage, 3000, { extend: never });
      await stage.sleep(3000);
      const { error, reason } = handle.signal as { error?: Error; reason: unknown };
      expect(reason).toBe(error);
      expect(error).toBeInstanceOf(LockLostError);
      expect((error as LockLostError).lock).toBe(lock);
      expect(error?.cause).toBeUndefined();
      expect(error?.message).toBe(
        "The lock on r, with a ttl of 3.0 s, was lost: its validity ended before it was extended; " +
          "was the event loop blocked, or the machine suspended?",
      );
      expect(handle.loss).toBe(error);
    }),
  );

  it(
    "has the last failed extension as its cause",
    played(async (stage) => {
      const { handle } = await keep(stage, 3000);
      await stage.sleep(3000);
      expect(handle.signal.error?.cause).toBe(failure);
      expect(handle.signal.error?.message).toMatch(
        /it could not be extended in time\. no quorum\.$/,
      );
    }),
  );

  it(
    "that an extension found out is said at once, with that as its cause",
    played(async (stage) => {
      const cause = new Error("others hold it");
      const kept = await keep(stage, 3000, {
        extend: (lock) => {
          partsOf(lock, "test").lease.lose(cause);
          return Promise.resolve(failure);
        },
      });
      await stage.sleep(1966);
      expect(kept.abortedMs).toBeDefined();
      expectEarly(kept.tries[0]?.remainingMs ?? 0, 1000);
      expect(kept.handle.signal.error?.cause).toBe(cause);
      await stage.sleep(3000);
      expect(kept.tries).toHaveLength(1);
    }),
  );

  it(
    "that nothing foreshadowed has no cause, whatever failed before the last extension",
    played(async (stage) => {
      let failures = 1;
      const { client, lock, handle } = await keep(stage, 3000, {
        extend: (extending) => (failures-- > 0 ? Promise.resolve(failure) : extended(extending)),
      });
      await stage.sleep(2500);
      client.host.stepWall(5000);
      expect(lock.valid).toBe(false);
      expect(handle.signal.error).toBeDefined();
      expect(handle.signal.error?.cause).toBeUndefined();
    }),
  );

  it(
    "by a step of the wall clock is noticed within a second, and at once by who reads the lock",
    played(async (stage) => {
      const quiet = await keep(stage, 20_000);
      await stage.sleep(1300);
      quiet.client.host.stepWall(30_000);
      const steppedMs = stage.nowMs;
      expect(quiet.abortedMs).toBeUndefined();
      await stage.sleep(1000);
      expect(quiet.abortedMs).toBeGreaterThan(steppedMs);
      await quiet.lock.release();

      const read = await keep(stage, 20_000);
      read.client.host.stepWall(30_000);
      expect(read.abortedMs).toBeUndefined();
      expect(read.lock.remaining).toBe(0);
      expect(read.abortedMs).toBe(stage.nowMs);

      // By the nodes' clocks, it ends only now.
      await stage.sleep(20_000);
      const asked = await keep(stage, 20_000);
      const { signal } = asked.handle;
      asked.client.host.stepWall(30_000);
      expect(asked.abortedMs).toBeUndefined();
      expect(() => {
        signal.throwIfAborted();
      }).toThrow(LockLostError);
      expect(asked.abortedMs).toBe(stage.nowMs);
    }),
  );

  it(
    "that an extension by a shorter ttl brings nearer, after such a step, is noticed in time",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      const lock = await redlock.acquire("r", 900);
      const { signal } = lock;
      host.stepWall(600);
      await lock.extend(400);
      expect(signal.aborted).toBe(false);
      await stage.sleep(400);
      expect(signal.aborted).toBe(true);
    }),
  );

  it(
    "during a suspension, when the monotonic clock stands still, is said as soon as the machine goes on",
    played(async (stage) => {
      const kept = await keep(stage, 3000);
      await stage.sleep(100);
      kept.client.host.suspend(5000);
      await stage.sleep(5900);
      // By the alarm that was set for a second after the beginning.
      expect(kept.abortedMs).toBeGreaterThan(stage.nowMs - 10);
    }),
  );

  it(
    "before the keeping began is said at its beginning",
    played(async (stage) => {
      const { redlock, internals, host } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(1000);
      const handle = handleOf(lock, internals.environment);
      handle.keep({ thresholdMs: 300, pauseMs: () => 100, extend: never });
      expect(handle.signal.aborted).toBe(true);
      expect(host.timers.size).toBe(0);
    }),
  );
});

describe("the end of the keeping", () => {
  it(
    "leaves no timer, and extends no more",
    played(async (stage) => {
      const { tries, client, lock } = await keep(stage, 3000);
      await stage.sleep(100);
      expect(client.host.timers.size).toBe(1);
      await lock.release();
      await stage.sleep(1);
      expect(client.host.timers.size).toBe(0);
      await stage.sleep(4000);
      expect(tries).toEqual([]);
      expect(lock.valid).toBe(false);
    }),
  );

  it(
    "is not undone by an extension that was under way",
    played(async (stage) => {
      const { tries, client, lock } = await keep(stage, 3000, {
        extend: async () => {
          await stage.sleep(200);
          return failure;
        },
      });
      await stage.sleep(2000);
      expect(tries).toHaveLength(1);
      await lock.release();
      await stage.sleep(500);
      expect(tries).toHaveLength(1);
      expect(client.host.timers.size).toBe(0);
    }),
  );

  it(
    "takes a last look at the clocks",
    played(async (stage) => {
      const { client, handle } = await keep(stage, 3000);
      client.host.stepWall(5000);
      expect(handle.loss).toBeInstanceOf(LockLostError);
      expect(handle.signal.aborted).toBe(true);
      await stage.sleep(1);
    }),
  );

  it(
    "of a lock that was released meanwhile is no loss",
    played(async (stage) => {
      const { lock, handle } = await keep(stage, 3000);
      await lock.release();
      await stage.sleep(3000);
      expect(handle.loss).toBeUndefined();
      await lock.release();
      expect(handle.signal.aborted).toBe(false);
    }),
  );
});
