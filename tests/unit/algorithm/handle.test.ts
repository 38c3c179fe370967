import { describe, expect, it, jest } from "@jest/globals";
import type { Lock } from "../../../src/lock.js";
import { LockLostError } from "../../../src/lock.js";
import { played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

/** Notes when the lock's signal aborts. */
function watch(stage: Stage, { signal }: Lock): { abortedMs: number | undefined } {
  const watched: { abortedMs: number | undefined } = { abortedMs: undefined };
  signal.addEventListener("abort", () => {
    watched.abortedMs = stage.nowMs;
  });
  return watched;
}

/** The end of the validity on the world's clock. */
function endMs({ expiration }: Lock): number {
  return expiration - 1_000_000;
}

describe("the signal of a lock that nothing extends", () => {
  it(
    "aborts once where to abort is to read `aborted`, as in Deno",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const { signal } = await redlock.acquire("r", 1000);
      // eslint-disable-next-line @typescript-eslint/unbound-method
      const { abort: originalAbort } = AbortController.prototype;
      const abort = jest.spyOn(AbortController.prototype, "abort");
      const aborted: unknown[] = [];
      signal.addEventListener("abort", () => aborted.push(signal.reason));
      try {
        abort.mockImplementation(function (this: AbortController, reason) {
          if (!this.signal.aborted) originalAbort.call(this, reason);
        });
        await stage.sleep(1000);
      } finally {
        abort.mockRestore();
      }
      expect(aborted).toEqual([signal.error]);
    }),
  );

  it.each([
    { ttlMs: 150, slackMs: 2 },
    { ttlMs: 3000, slackMs: 10 },
    { ttlMs: 20_000, slackMs: 10 },
  ])("aborts $slackMs ms before the end of a ttl of $ttlMs ms", ({ ttlMs, slackMs }) =>
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      const lock = await redlock.acquire("r", ttlMs);
      const lostMs = endMs(lock);
      const watched = watch(stage, lock);
      await stage.sleep(ttlMs);
      expect(watched.abortedMs).toBe(lostMs - slackMs);
      expect(lock.valid).toBe(false);
      expect(lock.signal.reason).toBeInstanceOf(LockLostError);
      expect(lock.signal.error).toBe(lock.signal.reason);
      expect((lock.signal.reason as LockLostError).reason).toBe("expired");
      expect(lock.signal.error?.message).toMatch(
        /ended before it was released\. Call extend\(\) in time, or acquire it/,
      );
      expect((lock.signal.reason as LockLostError).resources).toEqual(["r"]);
      expect(stage.questions("extend")).toEqual([]);
      expect(host.timers.size).toBe(0);
    })(),
  );

  it(
    "is the same each time, and has aborted if it is first read after the end",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(2000);
      const { signal } = lock;
      expect(signal.aborted).toBe(true);
      expect(lock.signal).toBe(signal);
    }),
  );

  it(
    "has aborted when it is read after the event loop was blocked, before any timer",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      expect(lock.signal.aborted).toBe(false);
      host.stepWall(5000);
      expect(lock.signal.aborted).toBe(true);
      await stage.sleep(1);
    }),
  );

  it(
    "follows each extension",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      const watched = watch(stage, lock);
      await stage.sleep(800);
      await lock.extend(1000);
      const lostMs = endMs(lock);
      await stage.sleep(900);
      expect(watched.abortedMs).toBeUndefined();
      await stage.sleep(200);
      expect(watched.abortedMs).toBe(lostMs - 10);
    }),
  );

  it(
    "aborts at once when an extension finds that others hold the lock",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      const watched = watch(stage, lock);
      stage.forget(ALL, "r");
      stage.occupy(ALL, "r");
      const error = await rejection(lock.extend(10_000));
      expect(error).toMatchObject({ reason: "expired", resources: ["r"] });
      expect(watched.abortedMs).toBeLessThanOrEqual(stage.nowMs);
      await stage.sleep(1);
    }),
  );

  it(
    "has aborted also if the process was paused at any moment while the lock was granted",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      // A node that is down is to be given the key on its return, if the lock is valid by then.
      stage.crash([4]);
      await stage.sleep(10);
      const { meetings } = host;
      await (await redlock.acquire("r", 1000)).release();
      const most = host.meetings - meetings;
      let lateCount = 0;
      for (let meeting = 1; meeting <= most; meeting++) {
        host.pauses.set(host.meetings + meeting, 2000);
        const lock = await redlock.acquire(`r${meeting}`, 1000).catch(() => undefined);
        if (lock?.valid === false) {
          lateCount += 1;
          expect({ meeting, aborted: lock.signal.aborted }).toEqual({ meeting, aborted: true });
        }
        host.pauses.clear();
        await lock?.release();
        await stage.sleep(3000);
      }
      expect(lateCount).toBeGreaterThan(0);
      const startMs = stage.nowMs;
      await redlock.quit({ drain: 5000 });
      expect(stage.nowMs - startMs).toBeLessThan(100);
    }),
  );

  it(
    "never aborts for a lock that was released, whenever it is read, and leaves no timer",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      const read = await redlock.acquire("r", 1000);
      const watched = watch(stage, read);
      await read.release();
      const unread = await redlock.acquire("r", 1000);
      await unread.release();
      await stage.sleep(1);
      expect(host.timers.size).toBe(0);
      await stage.sleep(3000);
      expect(watched.abortedMs).toBeUndefined();
      expect(unread.signal.aborted).toBe(false);
    }),
  );

  it(
    "watches an adopted lock from its first extension on",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const other = await stage.connect();
      const given = await redlock.acquire("r", 1000);
      const lock = other.redlock.adopt(given.toJSON());
      const watched = watch(stage, lock);
      await stage.sleep(500);
      await lock.extend(1000);
      const lostMs = endMs(lock);
      await stage.sleep(900);
      expect(watched.abortedMs).toBeUndefined();
      await stage.sleep(200);
      expect(watched.abortedMs).toBe(lostMs - 10);
      expect(other.host.timers.size).toBe(0);
    }),
  );
});

describe("autoExtend", () => {
  it.each(["acquire", "tryAcquire"] as const)("keeps what %s gave until it is released", (call) =>
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      const lock = await redlock[call]("r", 3000, { autoExtend: true });
      if (lock === null) throw new Error("nobody else is there");
      await stage.sleep(20_000);
      expect(lock.valid).toBe(true);
      expect(lock.signal.aborted).toBe(false);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      expect(stage.questions("extend").length).toBeGreaterThanOrEqual(9 * 5);
      await lock.release();
      // The next look at the lock was due within a second.
      await stage.sleep(10);
      expect(host.timers.size).toBe(0);
      const { length } = stage.asked;
      await stage.sleep(5000);
      expect(stage.asked).toHaveLength(length);
      expect(stage.holders("r", lock.value)).toEqual([]);
      expect(host.timers.size).toBe(0);
    })(),
  );

  it(
    "as a setting of the constructor is for every acquire",
    played(async (stage) => {
      const { redlock } = await stage.connect({ autoExtend: true });
      const kept = await redlock.acquire("kept", 1000);
      const plain = await redlock.acquire("plain", 1000, { autoExtend: false });
      await stage.sleep(2000);
      expect([kept.valid, plain.valid]).toEqual([true, false]);
      await kept.release();
    }),
  );

  it(
    "tells of a loss before the validity ends, with the failure as its cause",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 3000, { autoExtend: true });
      const watched = watch(stage, lock);
      const lostMs = endMs(lock);
      stage.freeze([0, 1, 2]);
      await stage.sleep(3000);
      expect(watched.abortedMs).toBe(lostMs - 10);
      expect(lock.signal.error?.message).toContain("it could not be extended in time");
      expect(lock.signal.error?.cause).toMatchObject({ reason: "unavailable" });
    }),
  );

  it(
    "refuses a ttl that leaves no time to extend, before anything is sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const settings = { autoExtend: true, automaticExtensionThreshold: 950 };
      const error = await rejection(redlock.acquire("r", 1000, settings));
      expect(error).toBeInstanceOf(RangeError);
      expect(stage.questions("set")).toEqual([]);
    }),
  );
});

describe("maxHold", () => {
  it.each(["acquire", "using"] as const)(
    "ends the extensions of %s, and the signal says so in time",
    (call) =>
      played(async (stage) => {
        const { redlock } = await stage.connect();
        const held = { lostMs: 0, abortedMs: 0, error: undefined as Error | undefined };
        const hold = async (lock: Lock): Promise<void> => {
          const watched = watch(stage, lock);
          await stage.sleep(9999);
          held.lostMs = endMs(lock);
          await stage.sleep(5000);
          held.abortedMs = watched.abortedMs ?? 0;
          held.error = lock.signal.error;
        };
        const settings = { maxHold: 10_000 };
        if (call === "acquire") {
          await hold(await redlock.acquire("r", 3000, { ...settings, autoExtend: true }));
        } else {
          const error = await rejection(
            redlock.using("r", 3000, settings, (_, lock) => hold(lock)),
          );
          expect(error).toBe(held.error);
        }
        expect(held.abortedMs).toBe(held.lostMs - 10);
        expect(held.abortedMs).toBeGreaterThan(10_000);
        expect(held.error?.message).toBe(
          "The lock on r, with a ttl of 3.0 s, was lost: it was held for its maxHold of 10.0 s, after which the library " +
            "does not extend it.",
        );
        const last = stage.questions("extend").at(-1)?.atMs ?? 0;
        expect(last).toBeLessThan(10_020);
      })(),
  );

  it(
    "below the ttl leaves the lock its ttl",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 3000, { autoExtend: true, maxHold: 1000 });
      const watched = watch(stage, lock);
      const lostMs = endMs(lock);
      await stage.sleep(3000);
      expect(watched.abortedMs).toBe(lostMs - 10);
      expect(stage.questions("extend")).toEqual([]);
    }),
  );
});

describe("the events of a lock", () => {
  it(
    "tell of it once each, with the lock",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 3 });
      const told: string[] = [];
      redlock.on("acquired", ({ lock, waitedMs, attempts }) =>
        told.push(`acquired ${lock.resources.join()} after ${waitedMs} ms, ${attempts} attempts`),
      );
      redlock.on("extended", ({ lock }) => told.push(`extended ${lock.resources.join()}`));
      redlock.on("released", ({ lock }) => told.push(`released ${lock.resources.join()}`));
      redlock.on("lost", ({ lock, error }) =>
        told.push(`lost ${lock.resources.join()} ${String(error === lock.signal.error)}`),
      );
      redlock.on("waiting", ({ resources }) => told.push(`waiting ${resources.join()}`));
      const first = await redlock.acquire("r", 150);
      await first.extend(150);
      const second = await redlock.acquire("r", 5000);
      await second.release();
      await redlock.using("u", 3000, () => stage.sleep(2500));
      await stage.sleep(1);
      expect(told).toEqual([
        "acquired r after 2 ms, 1 attempts",
        "extended r",
        "waiting r",
        "lost r true",
        "acquired r after 204 ms, 2 attempts",
        "released r",
        "acquired u after 2 ms, 1 attempts",
        "extended u",
        "released u",
      ]);
    }),
  );

  it(
    "say of no call that it waits if it ends within its first attempt",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 3 });
      const holder = await stage.connect();
      await holder.redlock.acquire("r", 5000);
      const told: string[] = [];
      redlock.on("waiting", ({ resources }) => told.push(resources.join()));
      const aborting = new AbortController();
      const aborted = rejection(redlock.acquire("r", 5000, { signal: aborting.signal }));
      aborting.abort(new Error("enough"));
      expect((await aborted).message).toBe("enough");
      const closed = rejection(redlock.acquire("r", 5000));
      await redlock.quit();
      expect(await closed).toMatchObject({ code: "ERR_REDLOCK_CLOSED" });
      expect(told).toEqual([]);
    }),
  );

  it(
    "say of no call that it waits if its first attempt takes all of its time",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: -1 });
      const told: string[] = [];
      redlock.on("waiting", ({ resources }) => told.push(resources.join()));
      stage.freeze([0, 1, 2], 1000);
      const acquired = redlock.acquire("r", 5000, { acquireTimeout: 200 });
      expect((await rejection(acquired)).message).toContain("had not answered yet");
      expect(told).toEqual([]);
    }),
  );

  it(
    "tell that a node is back, without any call, though it hung before it died",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const told: string[] = [];
      redlock.on("node:down", ({ reason }) => told.push(`down: ${reason.message}`));
      redlock.on("node:up", () => told.push("up"));
      stage.freeze([1], 1000);
      await (await redlock.acquire("r", 3000)).release();
      await stage.sleep(300);
      stage.crash([1]);
      await stage.sleep(1000);
      await stage.restart([1]);
      await stage.sleep(2000);
      expect(told).toEqual(["down: did not reply in time", "up"]);
    }),
  );

  it(
    "tell of a node once when it is down, and once when it is back",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const told: string[] = [];
      redlock.on("node:down", ({ node, reason }) =>
        told.push(`${stage.nowMs} ${node} ${reason.code} ${reason.message}`),
      );
      redlock.on("node:up", ({ node, downMs }) => told.push(`${stage.nowMs} ${node} ${downMs}`));
      stage.freeze([1], 1000);
      stage.crash([2]);
      await stage.sleep(10);
      for (let call = 0; call < 10; call++) {
        await redlock.using(`r${call}`, 3000, () => stage.sleep(10));
      }
      await stage.restart([2]);
      await stage.sleep(2000);
      expect(told).toEqual([
        expect.stringMatching(/node-3:6379 ERR_REDLOCK_NODE_DOWN/),
        expect.stringMatching(/node-2:6379 ERR_REDLOCK_NODE_TIMEOUT did not reply in time/),
        expect.stringMatching(/node-3:6379 \d+/),
        expect.stringMatching(/node-2:6379 \d+/),
      ]);
    }),
  );
});
