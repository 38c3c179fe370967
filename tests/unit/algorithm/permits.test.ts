import { describe, expect, it } from "@jest/globals";
import type { Lock } from "../../../src/lock.js";
import { type Client, played, rejection } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
const ROUND_TRIP_MS = 2;
const SETTINGS = { permits: 3, retryCount: -1 };

function slotKey(permit = 0): string {
  return `{r}:redlock:permit:${permit}`;
}

async function fill({ redlock }: Client, permits = 3, ttlMs = 20_000): Promise<Lock[]> {
  const locks: Lock[] = [];
  for (let index = 0; index < permits; index++) {
    locks.push(await redlock.acquire("r", ttlMs, { permits }));
  }
  return locks;
}

function permitsOf(locks: readonly Lock[]): number[] {
  return locks.map(({ permit }) => permit ?? NaN).sort((a, b) => a - b);
}

describe("permits", () => {
  it(
    "let so many hold the resource, each with a slot of its own, and no more",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      const b = await stage.connect({ queue: true });
      const locks = await fill(a);
      expect(permitsOf(locks)).toEqual([0, 1, 2]);
      for (const { permit, value } of locks) {
        expect(stage.holders(slotKey(permit), value)).toEqual(ALL);
      }
      expect(await b.redlock.tryAcquire("r", 1000, { permits: 3 })).toBeNull();
      const error = await rejection(b.redlock.acquire("r", 1000, { permits: 3, retryCount: 2 }));
      expect(error.message).toContain("All 3 permits of r are taken.");
      expect(error).toMatchObject({ reason: "held", resources: ["r"] });
      await locks[1]?.release();
      const next = await b.redlock.tryAcquire("r", 1000, { permits: 3 });
      expect(next?.permit).toBe(locks[1]?.permit);
    }),
  );

  it(
    "are not attempted one after the other where the nodes that are free give no votes",
    played(async (stage) => {
      const { redlock } = await stage.connect({ restartGuard: 10_000, retryCount: 0 });
      const locks = await fill({ redlock } as Client, 2);
      for (const lock of locks) await lock.release();
      await stage.restart([0, 1, 2]);
      await stage.sleep(100);
      const error = await rejection(redlock.acquire("r", 1000, { permits: 3 }));
      expect(error).toMatchObject({ reason: "unavailable" });
      expect(error.message).toContain("1 attempt in");
    }),
  );

  it(
    "take the slot that this process had last, in one round trip",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      const first = await redlock.acquire("r", 1000, { permits: 100 });
      await first.release();
      await stage.sleep(10);
      const { ms, gives } = await stage.timed(redlock.acquire("r", 1000, { permits: 100 }));
      expect(ms).toBe(ROUND_TRIP_MS);
      expect(gives.permit).toBe(first.permit);
      expect(stage.questions("joinPermits")).toEqual([]);
    }),
  );

  it(
    "find the last free slot of many",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      const locks = await fill(await stage.connect(), 20);
      await locks[7]?.release();
      await stage.sleep(10);
      const { ms, gives } = await stage.timed(redlock.acquire("r", 1000, { permits: 20 }));
      expect(gives.permit).toBe(locks[7]?.permit);
      expect(ms).toBeLessThanOrEqual(3 * ROUND_TRIP_MS);
    }),
  );

  it(
    "are handed over in the order of the calls, within three round trips",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      const locks = await fill(a);
      const taken: number[] = [];
      const waiting: Promise<Lock>[] = [];
      for (let index = 0; index < 4; index++) {
        const { redlock } = await stage.connect({ queue: true });
        await stage.sleep(20);
        const next = redlock.acquire("r", 20_000, SETTINGS);
        void next.then(() => taken.push(index));
        waiting.push(next);
      }
      await stage.sleep(200);
      for (const [index, lock] of locks.entries()) {
        await lock.release();
        const { ms, gives } = await stage.timed(waiting[index] as Promise<Lock>);
        expect(ms).toBeLessThanOrEqual(3 * ROUND_TRIP_MS);
        expect(gives.permit).toBe(lock.permit);
      }
      expect(taken).toEqual([0, 1, 2]);
      await (await waiting[0])?.release();
      await waiting[3];
      expect(taken).toEqual([0, 1, 2, 3]);
    }),
  );

  it(
    "that are released together go to as many waiters soon",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      const b = await stage.connect({ queue: true });
      const locks = [...(await fill(a, 3)).slice(0, 2)];
      // Not every node hears of the two releases in the same order.
      for (const link of b.links.slice(0, 2)) link.extraDelayMs = 3;
      const waiting: Promise<Lock>[] = [];
      for (let index = 0; index < 2; index++) {
        const { redlock } = await stage.connect({ queue: true });
        waiting.push(redlock.acquire("r", 20_000, SETTINGS));
      }
      await stage.sleep(200);
      const own = b.redlock.adopt(JSON.parse(JSON.stringify(locks[1])) as never);
      await own.extend(20_000);
      const { ms } = await stage.timed(
        Promise.all([locks[0]?.release(), own.release(), ...waiting]),
      );
      expect(ms).toBeLessThanOrEqual(50);
      expect(new Set(permitsOf(await Promise.all(waiting))).size).toBe(2);
    }),
  );

  it(
    "do not take a node for silent that was asked for a second slot shortly before the attempts end",
    played(async (stage) => {
      const a = await stage.connect();
      const b = await stage.connect({ queue: true });
      const locks = await fill(a, 4);
      const errors: string[] = [];
      b.redlock.on("error", ({ name, message }) => {
        if (name !== "ResourceLockedError") errors.push(message);
      });
      for (const link of b.links) link.extraDelayMs = 20;
      // The nodes are asked for one slot after the other, and each reply takes most of what is left.
      const settings = { permits: 4, nodeTimeout: 100, retryCount: 0 };
      await locks[3]?.release();
      const lock = await b.redlock.acquire("r", 20_000, settings).catch(() => undefined);
      await lock?.release();
      await stage.sleep(500);
      expect(errors).toEqual([]);
      expect(await b.redlock.tryAcquire("r", 1000, { permits: 4 })).not.toBeNull();
    }),
  );

  it(
    "of a holder that crashed are given to a waiter when they expire",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      await fill(a, 3, 2000);
      const fromMs = stage.nowMs;
      const { redlock } = await stage.connect({ queue: true });
      const lock = await redlock.acquire("r", 1000, SETTINGS);
      expect(stage.nowMs - fromMs).toBeLessThan(2000 + 50);
      expect(lock.valid).toBe(true);
    }),
  );

  it.each([true, false])(
    "are taken in turn by a crowd, never more than there are (queue: %s)",
    async (queue) =>
      played(async (stage) => {
        let now = 0;
        let most = 0;
        let turns = 0;
        const work = async ({ redlock }: Client): Promise<void> => {
          for (let turn = 0; turn < 6; turn++) {
            await redlock.using("r", 5000, SETTINGS, async () => {
              now += 1;
              turns += 1;
              most = Math.max(most, now);
              await stage.sleep(10);
              now -= 1;
            });
          }
        };
        const clients = [];
        for (let index = 0; index < 3; index++) clients.push(await stage.connect({ queue }));
        const fromMs = stage.nowMs;
        await Promise.all(clients.flatMap((client) => [1, 2, 3].map(() => work(client))));
        expect(turns).toBe(3 * 3 * 6);
        expect(most).toBe(3);
        if (queue) expect(stage.nowMs - fromMs).toBeLessThan(18 * (10 + 5 * ROUND_TRIP_MS));
      })(),
  );

  it(
    "are extended, released and adopted as any lock",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      const other = await stage.connect({ queue: true });
      const lock = await redlock.acquire("r", 1000, { permits: 5 });
      const key = slotKey(lock.permit);
      await lock.extend(5000);
      expect(Math.min(...stage.remainingMs(key))).toBeGreaterThan(4900);
      const json = JSON.parse(JSON.stringify(lock)) as ReturnType<Lock["toJSON"]>;
      expect(json.permit).toBe(lock.permit);
      const adopted = other.redlock.adopt(json);
      await adopted.extend(8000);
      expect(adopted.permit).toBe(lock.permit);
      await adopted.release();
      await stage.sleep(10);
      expect(stage.remainingMs(key)).toEqual([0, 0, 0, 0, 0]);
      expect(() => redlock.adopt({ ...json, permit: 1000 })).toThrow("number of the lock's permit");
      expect(() => redlock.adopt({ ...json, permit: -1 })).toThrow(TypeError);
      expect(() => redlock.adopt({ ...json, shared: true })).toThrow("and shared");
      expect(() => redlock.adopt({ ...json, fence: 5 })).toThrow("and the fence 5");
    }),
  );

  it(
    "are refused where they cannot be, before anything is sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      for (const [resources, settings, words] of [
        ["r", { permits: 1 }, "must be a whole number of at least 2"],
        ["r", { permits: 1001 }, "must be at most 1000"],
        ["r", { permits: 2.5 }, "must be a whole number"],
        ["r", { permits: "3" }, "must be a number"],
        ["r", { permits: 3, fencing: true }, "acquire() cannot have permits and fencing"],
        ["r", { permits: 3, shared: true }, "acquire() cannot have shared and permits"],
        [["r", "s"], { permits: 3 }, "permits of one resource, but got 2"],
        ["a}b{", { permits: 3 }, "cannot let several hold the key a}b{"],
        ["r".repeat(200), { permits: 1000 }, "characters together, more than 100000"],
      ] as const) {
        for (const call of ["acquire", "tryAcquire"] as const) {
          const error = await rejection(redlock[call](resources, 1000, settings as never));
          expect(error.message).toContain(words.replace("acquire()", `${call}()`));
          expect(error.code).toBe("ERR_REDLOCK_INVALID_ARGUMENT");
        }
      }
      const leading = redlock.lead("r", 1000, { permits: 3 }, () => 1);
      expect((await rejection(leading)).message).toContain("lead() takes no permits");
      const reading = redlock.lead("r", 1000, { shared: true }, () => 1);
      expect((await rejection(reading)).message).toContain("lead() takes no shared");
      expect(stage.asked).toEqual([]);
    }),
  );
});

describe("what is asked about permits", () => {
  it(
    "tells each holder, what each node stores, and who waits",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      const locks = await fill(a);
      const holders = await a.redlock.holder("r", { permits: 3 });
      expect(holders.map((holder) => holder?.value)).toEqual(
        [0, 1, 2].map((slot) => locks.find(({ permit }) => permit === slot)?.value),
      );
      expect(await a.redlock.holder("r")).toBeNull();
      const b = await stage.connect({ queue: true });
      const waiting = b.redlock.acquire("r", 1000, SETTINGS);
      await stage.sleep(100);
      const [node] = await a.redlock.inspect("r", { permits: 3 });
      expect(node?.resources.map(({ permit, resource }) => [resource, permit])).toEqual([
        ["r", 0],
        ["r", 1],
        ["r", 2],
      ]);
      for (const { waiters } of node?.resources ?? []) expect(waiters).toHaveLength(1);
      await locks[0]?.release();
      await waiting;
    }),
  );

  it(
    "ends all of them by force, and hands over",
    played(async (stage) => {
      const a = await stage.connect({ queue: true });
      const locks = await fill(a);
      const b = await stage.connect({ queue: true });
      const waiting = b.redlock.acquire("r", 1000, SETTINGS);
      await stage.sleep(100);
      const ended = await a.redlock.forceRelease("r", { permits: 3 });
      expect(ended.map(({ permit, resource }) => [resource, permit])).toEqual([
        ["r", 0],
        ["r", 1],
        ["r", 2],
      ]);
      expect(new Set(ended.map(({ value }) => value))).toEqual(
        new Set(locks.map(({ value }) => value)),
      );
      const { ms } = await stage.timed(waiting);
      expect(ms).toBeLessThan(20);
    }),
  );
});
