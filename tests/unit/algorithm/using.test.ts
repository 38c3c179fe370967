import { describe, expect, it } from "@jest/globals";
import { LockLostError } from "../../../src/lock.js";
import { played, rejection } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

describe("using", () => {
  it(
    "runs the work under a lock, gives its value, and releases",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      let value = "";
      const done = await redlock.using("r", 1000, (signal, lock) => {
        ({ value } = lock);
        expect(signal.aborted).toBe(false);
        expect(lock.valid).toBe(true);
        expect(stage.holders("r", value)).toEqual(ALL);
        return "done";
      });
      expect(done).toBe("done");
      expect(value).not.toBe("");
      expect(stage.holders("r", value)).toEqual([]);
      expect(stage.questions("release")).toHaveLength(5);
    }),
  );

  it(
    "keeps the lock for many times its ttl, extending it when a third of that is left",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      await redlock.using("r", 3000, async (signal, lock) => {
        while (stage.questions("extend").length === 0) await stage.sleep(1);
        // An alarm is early by up to 10 ms, and it takes 1 ms to the servers.
        expect(lock.remaining).toBeGreaterThanOrEqual(1000 - 1);
        expect(lock.remaining).toBeLessThan(1010 - 1);
        await stage.sleep(20_000);
        expect(signal.aborted).toBe(false);
        expect(lock.valid).toBe(true);
      });
      expect(stage.questions("extend")).toHaveLength(11 * 5);
      const { length } = stage.asked;
      await stage.sleep(5000);
      expect(stage.asked).toHaveLength(length);
    }),
  );

  it(
    "takes settings before the work",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      await redlock.using("r", 3000, { automaticExtensionThreshold: 2000 }, async (_, lock) => {
        while (stage.questions("extend").length === 0) await stage.sleep(1);
        expect(lock.remaining).toBeGreaterThanOrEqual(2000 - 1);
        expect(lock.remaining).toBeLessThan(2010 - 1);
      });
      stage.occupy(ALL, "r");
      const error = await rejection(redlock.using("r", 3000, { retryCount: 0 }, () => "never"));
      expect(error.message).toContain("1 attempt in");
    }),
  );

  it(
    "refuses bad input before anything is sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const noWork = [
        redlock.using("r", 1000, undefined as never),
        redlock.using("r", 1000, {}, undefined as never),
        redlock.using("r", 1000, {}, "work" as never),
      ];
      for (const refused of noWork) {
        expect((await rejection(refused)).message).toMatch(/^INVARIANT: routine is not a function/);
      }
      const threshold = { automaticExtensionThreshold: 950 };
      expect(await rejection(redlock.using("r", 1000, threshold, () => 1))).toBeInstanceOf(
        RangeError,
      );
      expect(stage.asked).toEqual([]);
    }),
  );

  it(
    "rejects with what the work threw, and releases",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const own = new Error("the work failed");
      expect(await rejection(redlock.using("r", 1000, () => Promise.reject(own)))).toBe(own);
      expect(stage.holders("r", "a1")).toEqual([]);
    }),
  );

  it(
    "ends the waiting, but not the work, by the caller's signal",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const controller = new AbortController();
      const { signal } = controller;
      const value = await redlock.using("r", 1000, { signal }, async (lost) => {
        controller.abort();
        await stage.sleep(5000);
        return lost.aborted;
      });
      expect(value).toBe(false);
    }),
  );

  it(
    "is content where the work released the lock itself, and releases once",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      expect(
        await redlock.using("r", 1000, async (_, lock) => {
          await lock.release();
          return 7;
        }),
      ).toBe(7);
      await stage.sleep(5);
      expect(stage.questions("release")).toHaveLength(5);
    }),
  );

  it(
    "waits for the release no longer than for one server, and does not reject because of it",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const { ms, gives } = await stage.timed(
        redlock.using("r", 4000, () => {
          stage.freeze([0, 1, 2], 1000);
          return 7;
        }),
      );
      expect(gives).toBe(7);
      expect(ms).toBe(2 + 200);
      await stage.sleep(2000);
      expect(stage.holders("r", "a1")).toEqual([]);
      const short = stage.timed(
        redlock.using("s", 4000, { nodeTimeout: 70 }, () => {
          stage.freeze([0, 1, 2], 1000);
          return 7;
        }),
      );
      expect(await short).toEqual({ ms: 2 + 70, gives: 7 });
    }),
  );

  it(
    "waits for the release as long as the slowest server has to answer",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      for (const link of links.slice(0, 3)) link.extraDelayMs = 29;
      // Servers that are known to be slow have three round trips.
      await redlock.acquire("s", 1000, { nodeTimeout: 300 });
      await stage.sleep(10);
      expect((await stage.timed(redlock.using("r", 1000, () => 7))).ms).toBe(60 + 60);
    }),
  );

  it(
    "does not try the release again",
    played(async (stage) => {
      const { redlock } = await stage.connect({ nodeTimeout: 500, retryDelay: 20, retryJitter: 0 });
      const { ms } = await stage.timed(
        redlock.using("r", 4000, async () => {
          stage.crash([0, 1, 2]);
          await stage.sleep(10);
        }),
      );
      expect(ms).toBe(2 + 10);
      await stage.sleep(1000);
      expect(stage.questions("release").map(({ node }) => node)).toEqual([3, 4]);
    }),
  );
});

describe("a lock that is lost under the work", () => {
  it(
    "aborts the signal before its validity ends, though no server ever answers",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      let abortedMs = 0;
      let endMs = 0;
      const error = await rejection(
        redlock.using("r", 3000, async (signal, lock) => {
          endMs = lock.expiration - 1_000_000;
          signal.addEventListener("abort", () => {
            abortedMs = stage.nowMs;
          });
          stage.freeze([0, 1, 2]);
          await stage.sleep(5000);
          expect(signal.error).toBe(signal.reason);
          return "too late";
        }),
      );
      expect(abortedMs).toBe(endMs - 10);
      expect(error).toBeInstanceOf(LockLostError);
      expect(error.message).toContain("it could not be extended in time. The operation was unable");
    }),
  );

  it(
    "aborts the signal at once where so many servers hold it no longer that others could acquire it",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lost = await rejection(
        redlock.using("r", 3000, async (signal, lock) => {
          stage.forget([0, 1, 2], "r");
          while (!signal.aborted) await stage.sleep(1);
          expect(stage.nowMs).toBeLessThan(lock.ttl - 900);
          expect(stage.nowMs).toBeGreaterThan(lock.ttl - 1100);
        }),
      );
      expect(lost.message).toContain("node-1:6379 holds this lock no longer");
    }),
  );

  it(
    "is extended again when the servers are back in time",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      await redlock.using("r", 3000, async (signal, lock) => {
        stage.freeze([0, 1, 2], 2500);
        await stage.sleep(10_000);
        expect(signal.aborted).toBe(false);
        expect(lock.valid).toBe(true);
      });
      // Each try has at most a third of what is left.
      const [first] = stage.questions("extend");
      expect(first?.node).toBe(3);
    }),
  );

  it(
    "gives each extension at most a third of what is left",
    played(async (stage) => {
      const { redlock } = await stage.connect({ nodeTimeout: 2000 });
      await rejection(
        redlock.using("r", 3000, async (signal) => {
          stage.freeze([0, 1, 2]);
          while (!signal.aborted) await stage.sleep(1);
        }),
      );
      // Cut after 333 ms, 100 ms of pause at least: none of these waits for the servers' 2 s.
      const tries = stage.questions("extend").filter(({ node }) => node === 4);
      expect(tries.length).toBeGreaterThan(2);
    }),
  );

  it(
    "does not hide what the work threw",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const own = new Error("the work failed");
      const error = await rejection(
        redlock.using("r", 3000, async () => {
          stage.freeze([0, 1, 2]);
          await stage.sleep(5000);
          throw own;
        }),
      );
      expect(error).toBe(own);
    }),
  );

  it(
    "is noticed at the end of the work, too",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      const error = await rejection(
        redlock.using("r", 3000, () => {
          host.stepWall(10_000);
          return "too late";
        }),
      );
      expect(error).toBeInstanceOf(LockLostError);
      await stage.sleep(5);
      expect(stage.holders("r", "a1")).toEqual([]);
    }),
  );
});
