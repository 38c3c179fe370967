import { describe, expect, it } from "@jest/globals";
import type { LockLostError } from "../../../src/lock.js";
import { type Client, played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

async function connected(stage: Stage): Promise<Client> {
  const client = stage.client({}, stage.machine(false));
  await stage.sleep(10);
  return client;
}

/** Notes when a promise is fulfilled. */
function timed(stage: Stage, promise: Promise<unknown>): { doneMs: number | undefined } {
  const timed: { doneMs: number | undefined } = { doneMs: undefined };
  void promise.then(() => {
    timed.doneMs = stage.nowMs;
  });
  return timed;
}

function leftOn({ servers }: Stage): string[] {
  return servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs));
}

describe("quit with a drain", () => {
  it(
    "waits until what runs under locks has ended, extends it meanwhile, and closes then",
    played(async (stage) => {
      const { redlock, host } = await connected(stage);
      const values = Promise.all(
        [500, 4000].map((ms, index) =>
          redlock.using(`r${index}`, 1000, async (signal) => {
            await stage.sleep(ms);
            return signal.aborted;
          }),
        ),
      );
      await stage.sleep(10);
      const closed = timed(stage, redlock.quit({ drain: 10_000 }));
      await stage.sleep(3900);
      expect(closed.doneMs).toBeUndefined();
      await stage.sleep(200);
      expect(closed.doneMs).toBeLessThan(4100);
      expect(await values).toEqual([false, false]);
      expect(leftOn(stage)).toEqual([]);
      await stage.sleep(1);
      expect(host.timers.size).toBe(0);
    }),
  );

  it(
    "ends with the validity of a lock that was adopted and extended meanwhile",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const other = await connected(stage);
      const running = redlock.using("s", 1000, () => stage.sleep(500));
      await stage.sleep(10);
      const closed = timed(stage, redlock.quit({ drain: 60_000 }));
      const lock = redlock.adopt((await other.redlock.acquire("r", 2000)).toJSON());
      await lock.extend(2000);
      await running;
      await stage.sleep(1000);
      expect(closed.doneMs).toBeUndefined();
      await stage.sleep(1000);
      expect(closed.doneMs).toBeDefined();
      expect(lock.valid).toBe(false);
    }),
  );

  it(
    "refuses new locks at once, and ends the waiting for them",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const lock = await redlock.acquire("r", 10_000);
      const waiting = redlock.acquire("r", 1000, { acquireTimeout: 60_000 });
      waiting.catch(() => undefined);
      await stage.sleep(10);
      const startMs = stage.nowMs;
      const closed = redlock.quit({ drain: 10_000 });
      for (const refused of [
        redlock.acquire("s", 1000),
        redlock.tryAcquire("s", 1000),
        redlock.using("s", 1000, () => undefined),
        waiting,
      ]) {
        expect(await rejection(Promise.resolve(refused))).toMatchObject({
          code: "ERR_REDLOCK_CLOSED",
          reason: "closed",
        });
      }
      expect(stage.nowMs - startMs).toBeLessThan(5);
      await lock.extend(10_000);
      expect(await redlock.holder("r")).toMatchObject({ value: lock.value });
      await lock.release();
      await closed;
      expect(stage.nowMs - startMs).toBeLessThan(100);
      expect(leftOn(stage)).toEqual([]);
    }),
  );

  it(
    "after its time ends what is held: aborts, releases and closes",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const plain = await redlock.acquire("plain", 60_000);
      const kept = await redlock.acquire("kept", 1000, { autoExtend: true });
      const used = rejection(redlock.using("used", 1000, () => stage.sleep(20_000)));
      await stage.sleep(10);
      const startMs = stage.nowMs;
      await redlock.quit({ drain: 5000 });
      expect(stage.nowMs - startMs).toBeLessThan(5010);
      expect(stage.nowMs - startMs).toBeGreaterThanOrEqual(5000);
      for (const { signal, valid } of [plain, kept]) {
        expect(valid).toBe(false);
        expect(signal.reason as LockLostError).toMatchObject({ reason: "closed" });
      }
      expect(leftOn(stage)).toEqual([]);
      expect(await used).toMatchObject({ code: "ERR_REDLOCK_LOST", reason: "closed" });
    }),
  );

  it(
    "neither waits for a lock that another process may have adopted, nor releases it",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const other = await stage.connect();
      const lock = await redlock.acquire("r", 20_000);
      const adopted = other.redlock.adopt(lock.toJSON());
      const startMs = stage.nowMs;
      await redlock.quit({ drain: 5000 });
      expect(stage.nowMs - startMs).toBeLessThan(10);
      await adopted.extend(20_000);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      await adopted.release();
    }),
  );

  it(
    "waits for a lock that was adopted and extended, and releases it in the end",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const other = await stage.connect();
      const lock = await other.redlock.acquire("r", 20_000);
      const adopted = redlock.adopt(lock.toJSON());
      await adopted.extend(20_000);
      const startMs = stage.nowMs;
      await redlock.quit({ drain: 5000 });
      expect(stage.nowMs - startMs).toBeGreaterThanOrEqual(5000);
      expect(adopted.signal.reason as LockLostError).toMatchObject({ reason: "closed" });
      expect(leftOn(stage)).toEqual([]);
    }),
  );

  it(
    "does not wait for a lock that has expired, also if nobody looks at it",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      await redlock.acquire("r", 1000);
      await stage.sleep(2000);
      const before = timed(stage, redlock.quit({ drain: 5000 }));
      await stage.sleep(10);
      expect(before.doneMs).toBeDefined();

      const second = await connected(stage);
      await second.redlock.acquire("s", 1000);
      const startMs = stage.nowMs;
      await second.redlock.quit({ drain: 5000 });
      expect(stage.nowMs - startMs).toBeLessThan(1000);
      expect(stage.nowMs - startMs).toBeGreaterThan(900);
    }),
  );

  it(
    "is cut short by a quit without one",
    played(async (stage) => {
      const { redlock, host } = await connected(stage);
      const used = rejection(redlock.using("used", 1000, () => stage.sleep(20_000)));
      await stage.sleep(10);
      const closed = timed(stage, redlock.quit({ drain: 15_000 }));
      await stage.sleep(100);
      await redlock.quit();
      await stage.sleep(10);
      expect(closed.doneMs).toBeLessThan(stage.nowMs + 1);
      expect(leftOn(stage)).toEqual([]);
      await used;
      expect(host.timers.size).toBe(0);
    }),
  );

  it.each([
    [null, "The options of quit() must be an object, but are null."],
    [{ drain: null }, "The option drain of quit() must be a number of ms, but is null."],
    [{ dran: 5 }, "quit() knows no option dran. Its only one is drain, in ms."],
    [
      { drain: "5s" },
      "The option drain of quit() must be a number of ms, but is a value of type string.",
    ],
    [
      { drain: -1 },
      "The option drain of quit() must be a whole number of at least 0 (ms), but is -1.",
    ],
    [
      { drain: Infinity },
      "The option drain of quit() must be a whole number of at least 0 (ms), but is Infinity.",
    ],
  ])("refuses %j, and goes on", (options, message) =>
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const error = await rejection(redlock.quit(options as { drain: number }));
      expect(error.message).toBe(message);
      await (await redlock.acquire("r", 1000)).release();
    })(),
  );
});

describe("the locks that are held", () => {
  it(
    "are forgotten when they have expired, though nobody looks at them",
    played(async (stage) => {
      const { redlock } = await connected(stage);
      const lost: string[] = [];
      redlock.on("lost", ({ lock }) => lost.push(lock.resources.join()));
      const kept = await redlock.acquire("kept", 60_000);
      for (let index = 0; index < 10; index++) await redlock.acquire(`r${index}`, 1000);
      await stage.sleep(2000);
      expect(lost).toEqual([]);
      for (let index = 0; index < 12; index++) await (await redlock.acquire("s", 1000)).release();
      expect(lost.sort()).toEqual(Array.from({ length: 10 }, (_, index) => `r${index}`));
      await kept.release();
    }),
  );
});
