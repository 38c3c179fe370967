import { describe, expect, it } from "@jest/globals";
import { partsOf } from "../../../src/lock.js";
import { played, rejection } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

describe("extend", () => {
  it(
    "renews a lock for its ttl from now, less the drift",
    played(async (stage) => {
      const { redlock } = await stage.connect({ driftFactor: 0.1 });
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(600);
      expect(await stage.timed(redlock.extend(lock, 2000))).toEqual({ ms: 2, gives: lock });
      expect(lock.remaining).toBe(2000 - 202 - 2);
      await redlock.extend(lock, 4000, { driftFactor: 0.5 });
      expect(lock.remaining).toBe(4000 - 2002 - 2);
    }),
  );

  it(
    "of several resources is for all of them or none",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0, keyPrefix: "lock:" });
      const lock = await redlock.acquire(["r", "s"], 1000);
      await redlock.extend(lock, 5000);
      expect(stage.remainingMs("lock:r")).toEqual(ALL.map(() => 4999));
      expect(stage.remainingMs("lock:s")).toEqual(ALL.map(() => 4999));
      stage.forget([0, 1, 2], "lock:s");
      await rejection(redlock.extend(lock, 9000));
      expect(Math.max(...stage.remainingMs("lock:r"))).toBeLessThan(9000);
    }),
  );

  it(
    "by less than what is left is granted, and shortens nothing",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      const { remaining, expiration } = lock;
      await redlock.extend(lock, 1000);
      expect(lock.remaining).toBe(remaining - 2);
      expect(lock.expiration).toBe(expiration);
      expect(stage.remainingMs("r")).toEqual(ALL.map(() => 9997));
    }),
  );

  it(
    "fails, and loses the lock, as soon as so many servers hold it no longer that nobody could extend it",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire("r", 10_000);
      stage.forget([0, 1, 2], "r");
      const { ms, gives: error } = await stage.timed(rejection(redlock.extend(lock, 10_000)));
      expect(ms).toBe(2);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.message).toContain("node-1:6379 holds this lock no longer");
      expect(lock.valid).toBe(false);
      expect(lock.remaining).toBe(0);
      const { lossCause } = partsOf(lock, "test").lease;
      expect(lossCause?.message).toBe(error.message);
      expect((lossCause as { code?: unknown } | undefined)?.code).toBe("ERR_REDLOCK_QUORUM");
      await stage.sleep(10);
      expect(stage.questions("set").filter(({ args }) => args[1] === lock.value)).toHaveLength(5);
    }),
  );

  it(
    "that fails since servers do not answer leaves the lock its validity",
    played(async (stage) => {
      const { redlock, errors } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire("r", 10_000);
      stage.freeze([0, 1, 2], 600);
      const { ms, gives: error } = await stage.timed(rejection(redlock.extend(lock, 10_000)));
      expect(ms).toBe(500);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.message).toContain("1 attempt in 500 ms");
      expect(lock.remaining).toBe(10_000 - 102 - 2 - 500);
      expect(errors).toHaveLength(3);
    }),
  );

  it(
    "is tried again as the settings say, while the lock is valid",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      stage.crash([0, 1, 2]);
      await stage.sleep(10);
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.extend(lock, 10_000, { retryCount: 3 })),
      );
      expect(ms).toBe(600);
      expect(error.attempts).toHaveLength(4);

      const short = stage.timed(rejection(redlock.extend(lock, 10_000, { retryCount: -1 })));
      const { remaining } = lock;
      expect((await short).ms).toBeLessThanOrEqual(remaining);
    }),
  );

  it(
    "that is not decided before the old validity ends has failed",
    played(async (stage) => {
      const { redlock } = await stage.connect({ nodeTimeout: 500, retryCount: 0 });
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(900);
      stage.freeze([0, 1, 2], 300);
      const { remaining } = lock;
      const { ms, gives: error } = await stage.timed(rejection(redlock.extend(lock, 10_000)));
      expect(ms).toBe(remaining);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      await stage.sleep(300);
      expect(lock.valid).toBe(false);
    }),
  );

  it(
    "fails where its answers came too late for the new validity, and leaves the old one",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ nodeTimeout: 500, retryCount: 0 });
      const lock = await redlock.acquire("r", 10_000);
      for (const link of links) link.extraDelayMs = 49;
      const error = await rejection(redlock.extend(lock, 100));
      expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
      expect(lock.remaining).toBe(10_000 - 102 - 2 - 100);
      expect(stage.questions("set")).toHaveLength(5);
    }),
  );

  it(
    "of a lock that has expired or was released asks nobody",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const expired = await redlock.acquire("r", 1000);
      const released = await redlock.acquire("s", 10_000);
      await released.release();
      await stage.sleep(1000);
      const late = await rejection(redlock.extend(expired, 1000));
      expect(late.code).toBe("ERR_REDLOCK_EXPIRED");
      expect(late.message).toBe(
        "Cannot extend an already-expired lock. The one on r was lost: acquire it again.",
      );
      expect(late.attempts).toEqual([]);
      const over = await rejection(redlock.extend(released, 1000));
      expect(over.message).toMatch(/The one on s was released: acquire it again\.$/);
      expect(stage.questions("extend")).toEqual([]);
    }),
  );

  it(
    "that meets a release says that the lock was released, and does not bring it back",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      const extending = rejection(redlock.extend(lock, 10_000));
      const releasing = lock.release();
      expect((await extending).code).toBe("ERR_REDLOCK_EXPIRED");
      await releasing;
      expect(lock.valid).toBe(false);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "does not go on trying once the lock is lost or released",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      stage.crash([0, 1, 2]);
      await stage.sleep(10);
      const startMs = stage.nowMs;
      const extending = rejection(redlock.extend(lock, 10_000));
      await stage.sleep(50);
      void rejection(lock.release());
      expect((await extending).code).toBe("ERR_REDLOCK_EXPIRED");
      await stage.sleep(5);
      expect(stage.questions("extend", startMs)).toHaveLength(2);
    }),
  );

  it(
    "of an adopted lock is tried for as long as the settings say",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const other = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      const adopted = other.redlock.adopt(lock.toJSON());
      stage.crash([0, 1, 2]);
      await stage.sleep(10);
      const { ms, gives } = await stage.timed(
        rejection(other.redlock.extend(adopted, 10_000, { retryCount: 2 })),
      );
      expect(ms).toBe(400);
      expect(gives.code).toBe("ERR_REDLOCK_QUORUM");
    }),
  );

  it(
    "of an adopted lock may take as long as the servers have to answer",
    played(async (stage) => {
      const { redlock } = await stage.connect({ nodeTimeout: 100 });
      const other = await stage.connect({ nodeTimeout: 100 });
      const adopted = other.redlock.adopt((await redlock.acquire("r", 10_000)).toJSON());
      for (const link of other.links) link.extraDelayMs = 40;
      expect((await stage.timed(adopted.extend(10_000))).ms).toBe(82);
      expect(adopted.valid).toBe(true);
    }),
  );

  it(
    "refuses a bad ttl and unknown settings before anything is sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 10_000);
      expect(await rejection(redlock.extend(lock, Number.NaN))).toBeInstanceOf(TypeError);
      expect(await rejection(redlock.extend(lock, 50, { driftFactor: 0.97 }))).toBeInstanceOf(
        RangeError,
      );
      expect(await rejection(redlock.extend(lock, 1000, { retries: 1 } as never))).toBeInstanceOf(
        TypeError,
      );
      expect(stage.questions("extend")).toEqual([]);
    }),
  );
});

describe("a server that lost the key", () => {
  it(
    "is given it again after a quorum kept it, in a command of its own, and votes from then on",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire(["r", "s"], 1000);
      stage.forget([3], "r");
      stage.forget([3], "s");
      await redlock.extend(lock, 5000);
      expect(stage.holders("r", lock.value)).toEqual([0, 1, 2, 4]);
      await stage.sleep(3);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      expect(stage.holders("s", lock.value)).toEqual(ALL);
      // It expires when the term does.
      expect(stage.remainingMs("r")[3]).toBe(4996);
      const [, , , , , ...gifts] = stage.questions("acquire");
      expect(gifts.map(({ node, args }) => [node, args[2]])).toEqual([
        [3, "r"],
        [3, "s"],
      ]);
      await redlock.extend(lock, 5000);
      await stage.sleep(2);
      expect(stage.questions("acquire")).toHaveLength(7);
    }),
  );

  it(
    "is given nothing while all have it, nor where it could not be asked",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 5000);
      stage.crash([3]);
      stage.freeze([4], 1000);
      await stage.sleep(10);
      await redlock.extend(lock, 5000);
      await stage.sleep(2000);
      expect(stage.questions("set").map(({ node }) => node)).toEqual([0, 1, 2, 3, 4]);
    }),
  );

  it(
    "is not given it over another's",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 5000);
      stage.forget([3], "r");
      stage.occupy([3], "r");
      await redlock.extend(lock, 5000);
      await stage.sleep(5);
      expect(stage.holders("r", "another's")).toEqual([3]);
    }),
  );

  it(
    "is not given it once the lock is released",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      const lock = await redlock.acquire("r", 5000);
      stage.forget([3], "r");
      const last = links[4];
      if (last === undefined) throw new Error("no connection");
      last.extraDelayMs = 20;
      await redlock.extend(lock, 5000);
      await lock.release();
      await stage.sleep(100);
      expect(stage.questions("set")).toHaveLength(5);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "is not asked while it is down or silent",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      const lock = await redlock.acquire("r", 5000);
      stage.forget([3], "r");
      const last = links[4];
      if (last === undefined) throw new Error("no connection");
      last.extraDelayMs = 20;
      const extending = redlock.extend(lock, 5000);
      await stage.sleep(4);
      expect(await extending).toBe(lock);
      stage.crash([3]);
      await stage.sleep(100);
      expect(stage.questions("set")).toHaveLength(5);
    }),
  );

  it(
    "is not asked while it is silent, so that nothing piles up for it",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      const lock = await redlock.acquire("r", 5000);
      stage.forget([3], "r");
      const last = links[4];
      if (last === undefined) throw new Error("no connection");
      last.extraDelayMs = 50;
      await redlock.extend(lock, 5000);
      stage.freeze([3], 1000);
      await redlock.acquire("s", 5000, { nodeTimeout: 20 });
      await stage.sleep(2000);
      expect(stage.questions("set").filter(({ args }) => args[0] === "r")).toHaveLength(5);
    }),
  );

  it(
    "is told from one that was merely not asked in time, which is no error and is given nothing",
    played(async (stage) => {
      const { redlock, errors, links } = await stage.connect();
      const lock = await redlock.acquire("r", 5000);
      const [, , , , last] = stage.servers;
      last?.execute("script", ["FLUSH"]);
      const link = links[4];
      if (link === undefined) throw new Error("no connection");
      link.extraDelayMs = 10;
      await redlock.extend(lock, 5000);
      await stage.sleep(100);
      expect(stage.questions("set")).toHaveLength(5);
      expect(errors).toEqual([]);
      await redlock.extend(lock, 9000);
      await stage.sleep(100);
      expect(stage.remainingMs("r")[4]).toBeGreaterThan(8000);
    }),
  );

  it(
    "is given nothing by an extension that failed",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire("r", 10_000);
      stage.forget([3], "r");
      stage.crash([0, 1]);
      await stage.sleep(10);
      await rejection(redlock.extend(lock, 10_000));
      await stage.sleep(10);
      expect(lock.valid).toBe(true);
      expect(stage.questions("set")).toHaveLength(5);
    }),
  );
});
