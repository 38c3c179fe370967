import { describe, expect, it } from "@jest/globals";
import { LockLostError } from "../../src/lock.js";
import { played, rejection } from "../virtual-world/stage.js";

describe("a lock", () => {
  it(
    "says what it is on, how it was got, and how long it may be relied on",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire(["r", "s"], 1000);
      expect(lock.redlock).toBe(redlock);
      expect(lock.resources).toEqual(["r", "s"]);
      expect(lock.value).toBe("a1");
      expect(lock.ttl).toBe(1000);
      expect(lock.expiration).toBe(1_000_010 + 988);
      expect(lock.remaining).toBe(986);
      expect(lock.valid).toBe(true);
      expect(lock.attempts).toHaveLength(1);
      expect((await lock.attempts[0])?.votesFor.size).toBe(5);
      await stage.sleep(985);
      expect(lock.remaining).toBe(1);
      expect(lock.valid).toBe(true);
      await stage.sleep(1);
      expect(lock.remaining).toBe(0);
      expect(lock.valid).toBe(false);
      expect(lock.expiration).toBe(0);
    }),
  );

  it(
    "is extended in place, with the ttl in force",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(500);
      expect(await lock.extend(2000)).toBe(lock);
      expect(lock.remaining).toBe(2000 - 22 - 2);
      expect(lock.ttl).toBe(2000);
      expect(stage.remainingMs("r")).toEqual([1999, 1999, 1999, 1999, 1999]);
    }),
  );

  it(
    "is released by its own method and by disposal, and is invalid at once",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      const released = lock.release();
      expect(lock.valid).toBe(false);
      expect(lock.expiration).toBe(0);
      const { attempts, start } = await released;
      expect(start).toBe(1_000_012);
      expect(attempts).toHaveLength(1);
      expect(stage.holders("r", lock.value)).toEqual([]);

      const other = await redlock.acquire("r", 1000);
      await other[Symbol.asyncDispose]();
      expect(stage.holders("r", other.value)).toEqual([]);
    }),
  );

  it(
    "becomes plain data that another process adopts",
    played(async (stage) => {
      const { redlock } = await stage.connect({ keyPrefix: "locks:" });
      const lock = await redlock.acquire("r", 1000);
      expect(lock.toJSON()).toEqual({
        version: 1,
        resources: ["r"],
        value: lock.value,
        expiration: lock.expiration,
        ttl: 1000,
        keyPrefix: "locks:",
      });
      expect(lock.toJSON().resources).not.toBe(lock.resources);
    }),
  );

  it(
    "that was adopted states what it was told, is valid from its first extension on, and can be released",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const other = await stage.connect();
      const original = await redlock.acquire("r", 1000);
      const adopted = other.redlock.adopt(original.toJSON());
      expect(adopted.value).toBe(original.value);
      expect(adopted.ttl).toBe(1000);
      expect(adopted.expiration).toBe(original.expiration);
      expect(adopted.remaining).toBe(0);
      expect(adopted.valid).toBe(false);
      expect(adopted.attempts).toEqual([]);
      await stage.sleep(500);
      expect(await adopted.extend(3000)).toBe(adopted);
      expect(adopted.valid).toBe(true);
      expect(adopted.remaining).toBe(3000 - 32 - 2);
      expect(adopted.expiration).toBe(1_000_000 + stage.nowMs + adopted.remaining);
      expect(adopted.ttl).toBe(3000);
      await adopted.release();
      expect(stage.holders("r", original.value)).toEqual([]);
    }),
  );

  it(
    "cannot change the list of resources of the one that made it",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      const json = lock.toJSON();
      lock.resources.push("s");
      expect(json.resources).toEqual(["r"]);
    }),
  );
});

describe("what is no lock", () => {
  it(
    "is refused by extend and release with a TypeError",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      for (const wrong of [undefined, null, "r", {}, () => undefined]) {
        for (const call of ["extend", "release"] as const) {
          const error = await rejection(redlock[call](wrong as never, 1000));
          expect(error).toBeInstanceOf(TypeError);
          expect(error.message).toMatch(new RegExp(`^${call}\\(\\) needs a lock`));
        }
      }
      expect(stage.asked).toEqual([]);
    }),
  );
});

describe("a LockLostError", () => {
  it(
    "names its lock and its cause",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const lock = await redlock.acquire("r", 1000);
      const cause = new Error("why");
      const error = new LockLostError("lost", lock, { cause });
      expect(error.lock).toBe(lock);
      expect(error.cause).toBe(cause);
      expect(error.code).toBe("ERR_REDLOCK_LOST");
      expect(error.name).toBe("LockLostError");
    }),
  );
});
