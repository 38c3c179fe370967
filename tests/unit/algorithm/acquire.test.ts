import { errorMonitor, type EventEmitter, getEventListeners } from "node:events";
import { describe, expect, it } from "@jest/globals";
import { ExecutionError } from "../../../src/errors.js";
import { Redlock } from "../../../src/redlock.js";
import type { Settings } from "../../../src/settings.js";
import { type Client, played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

/** Gives every connection this round trip. */
function setRoundTrip({ links }: Client, roundTripMs: number): void {
  for (const link of links) link.extraDelayMs = (roundTripMs - 2) / 2;
}

/** When the attempts reached the first server. */
function attemptsAt(stage: Stage, sinceMs: number): number[] {
  return stage.questions("set", sinceMs).flatMap(({ node, atMs }) => (node === 0 ? [atMs] : []));
}

describe("acquire", () => {
  it(
    "holds a free lock after one round trip, by one plain command to each server",
    played(async (stage) => {
      const { redlock, errors, host } = await stage.connect();
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 10_000));
      expect(ms).toBe(2);
      expect(stage.asked.map(({ node, command, args }) => [node, command, ...args])).toEqual(
        ALL.map((node) => [node, "set", "r", lock.value, "NX", "PX", "10000"]),
      );
      expect(lock.remaining).toBe(10_000 - 2 - 102);
      expect(errors).toEqual([]);
      await stage.sleep(1);
      expect(host.timers.size).toBe(0);
    }),
  );

  it(
    "takes several resources together, or none of them",
    played(async (stage) => {
      const { redlock } = await stage.connect({ keyPrefix: "lock:", retryCount: 0 });
      const lock = await redlock.acquire(["r", "s", "r"], 1000);
      expect(lock.resources).toEqual(["r", "s"]);
      expect(stage.holders("lock:r", lock.value)).toEqual(ALL);
      expect(stage.holders("lock:s", lock.value)).toEqual(ALL);
      await rejection(redlock.acquire(["q", "s"], 1000));
      expect(stage.holders("lock:q", "a2")).toEqual([]);
    }),
  );

  it(
    "does not wait for a minority that is silent or down",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.freeze([0]);
      stage.crash([4]);
      await stage.sleep(10);
      expect((await stage.timed(redlock.acquire("r", 1000))).ms).toBe(2);
    }),
  );

  it(
    "gives up the share of the ttl that the call or the constructor says to clock drift",
    played(async (stage) => {
      const { redlock } = await stage.connect({ driftFactor: 0.1 });
      expect((await redlock.acquire("r", 1000)).remaining).toBe(1000 - 102 - 2);
      expect((await redlock.acquire("s", 1000, { driftFactor: 0.5 })).remaining).toBe(
        1000 - 502 - 2,
      );
    }),
  );

  it(
    "fails where the majority came too late for any validity to be left",
    played(async (stage) => {
      const client = await stage.connect({ nodeTimeout: 200, retryCount: 0 });
      setRoundTrip(client, 100);
      const error = await rejection(client.redlock.acquire("r", 103));
      expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
      expect(error.message).toMatch(/^The operation achieved a quorum, but too late/);
      expect(error.message).toContain("The ttl of r was 103 ms: raise it, or find what is slow.");
      expect(stage.questions("release").map(({ node }) => node)).toEqual([]);
      await stage.sleep(51);
      expect(stage.questions("release").map(({ node }) => node)).toEqual(ALL);
      expect((await client.redlock.acquire("s", 104)).remaining).toBe(1);
    }),
  );

  it(
    "counts the time from before the first command, by the clock that says more",
    played(async (stage) => {
      const client = await stage.connect({ nodeTimeout: 200, retryCount: 0 });
      const acquiring = client.redlock.acquire("r", 1000);
      await stage.sleep(1);
      client.host.stepWall(500);
      expect((await acquiring).remaining).toBe(1000 - 12 - 502);
      const late = client.redlock.acquire("s", 1000);
      await stage.sleep(1);
      client.host.stepWall(1000);
      expect((await rejection(late)).code).toBe("ERR_REDLOCK_VALIDITY");
    }),
  );

  it(
    "refuses wrong input before anything is sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      expect(await rejection(redlock.acquire([], 1000))).toBeInstanceOf(TypeError);
      expect(await rejection(redlock.acquire("r", 1.5))).toBeInstanceOf(TypeError);
      expect(await rejection(redlock.acquire("r", 2))).toBeInstanceOf(RangeError);
      expect(await rejection(redlock.acquire("r", 50, { driftFactor: 0.97 }))).toBeInstanceOf(
        RangeError,
      );
      expect(stage.asked).toEqual([]);
    }),
  );
});

describe("a failed attempt", () => {
  it(
    "is released on every server that was asked, before the caller learns of the failure",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      stage.occupy([0, 1, 2], "r");
      stage.crash([4]);
      await stage.sleep(10);
      const error = await rejection(redlock.acquire("r", 1000));
      expect(error).toBeInstanceOf(ExecutionError);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(stage.questions("release").map(({ node }) => node)).toEqual([0, 1, 2, 3]);
      expect(stage.holders("r", "a1")).toEqual([]);
    }),
  );

  it(
    "leaves nothing on servers that slept through it and its release",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      stage.freeze([0, 1, 2], 3000);
      await rejection(redlock.acquire("r", 1000));
      await stage.sleep(3000);
      expect(stage.questions("set").map(({ node }) => node)).toEqual([3, 4, 0, 1, 2]);
      expect(stage.holders("r", "a1")).toEqual([]);
    }),
  );

  it(
    "has a value of its own, so that what is late of it cannot count in the next",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryDelay: 10, retryJitter: 0 });
      stage.occupy([0, 1, 2], "r", 30);
      const lock = await redlock.acquire("r", 1000);
      const values = stage
        .questions("set")
        .flatMap(({ node, args }) => (node === 0 ? [args[1]] : []));
      expect(new Set(values).size).toBe(values.length);
      expect(values.length).toBeGreaterThan(1);
      expect(values.at(-1)).toBe(lock.value);
      expect(lock.attempts).toHaveLength(values.length);
    }),
  );

  it(
    "is told by an error event for each vote against, which names the server",
    played(async (stage) => {
      const { redlock, errors } = await stage.connect({ retryCount: 0 });
      stage.occupy([0, 1, 2], "r");
      await rejection(redlock.acquire("r", 1000));
      expect(errors).toEqual(
        [1, 2, 3].map(
          (node) =>
            `node-${node}:6379 ResourceLockedError: The operation was applied to: 0 of the 1 requested resources.`,
        ),
      );
    }),
  );

  it(
    "does not suffer from a listener that throws",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.occupy([0], "r");
      let told = 0;
      redlock.on("error", () => {
        told += 1;
      });
      await redlock.acquire("r", 1000);
      expect(told).toBe(1);
    }),
  );
});

describe("waiting for a held lock", () => {
  it(
    "tries eleven times, 200 ms apart, and then says what each server answered",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.occupy([0, 1, 2], "r");
      const startMs = stage.nowMs;
      const error = await rejection(redlock.acquire("r", 1000));
      expect(attemptsAt(stage, startMs)).toEqual(
        Array.from({ length: 11 }, (_, index) => startMs + 1 + 202 * index),
      );
      expect(error.attempts).toHaveLength(11);
      expect(error.message).toBe(
        "The operation was unable to achieve a quorum during its retry window. " +
          "r is held by another lock for another 18.0 s. 11 attempts in 2.0 s; " +
          "the last had 2 of 5 votes, 3 needed: node-1:6379 held by another lock, " +
          "node-2:6379 held by another lock, node-3:6379 held by another lock.",
      );
    }),
  );

  it(
    "gets it by the next attempt after it was released",
    played(async (stage) => {
      const holder = await stage.connect();
      const waiter = await stage.connect();
      const held = await holder.redlock.acquire("r", 5000);
      const waiting = waiter.redlock.acquire("r", 5000);
      await stage.sleep(500);
      await held.release();
      const lock = await waiting;
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      expect(lock.attempts).toHaveLength(4);
    }),
  );

  it(
    "varies its delay by the jitter, up and down, and never below nothing",
    played(async (stage) => {
      const client = await stage.connect();
      stage.occupy(ALL, "r");
      for (const { chance, delayMs, retryDelay, retryJitter } of [
        { chance: 0, delayMs: 100, retryDelay: 200, retryJitter: 100 },
        { chance: 0.25, delayMs: 150, retryDelay: 200, retryJitter: 100 },
        { chance: 0.999, delayMs: 299, retryDelay: 200, retryJitter: 100 },
        // A timer takes 1 ms at least.
        { chance: 0, delayMs: 1, retryDelay: 50, retryJitter: 100 },
      ]) {
        client.chance = chance;
        const startMs = stage.nowMs;
        await rejection(
          client.redlock.acquire("r", 1000, { retryCount: 1, retryDelay, retryJitter }),
        );
        expect(attemptsAt(stage, startMs)).toEqual([startMs + 1, startMs + 3 + delayMs]);
      }
    }),
  );

  it(
    "has no end with a retryCount of -1",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: -1 });
      stage.occupy(ALL, "r", 15_000);
      const { ms, gives } = await stage.timed(redlock.acquire("r", 1000));
      expect(ms).toBeGreaterThan(15_000);
      expect(gives.valid).toBe(true);
    }),
  );

  it(
    "begins no attempt after acquireTimeout, and has as many before it as it can, whatever retryCount says",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      stage.occupy(ALL, "r");
      const startMs = stage.nowMs;
      const error = await rejection(redlock.acquire("r", 1000, { acquireTimeout: 606 }));
      expect(attemptsAt(stage, startMs)).toEqual([1, 203, 405].map((ms) => startMs + ms));
      expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
      expect(stage.nowMs - startMs).toBeLessThanOrEqual(606);

      const laterMs = stage.nowMs;
      await rejection(redlock.acquire("r", 1000, { acquireTimeout: 607 }));
      expect(attemptsAt(stage, laterMs)).toHaveLength(4);
      expect(stage.nowMs - laterMs).toBeLessThanOrEqual(607);
    }),
  );

  it(
    "ends an attempt that is undecided when acquireTimeout is over",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.freeze([0, 1, 2]);
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.acquire("r", 10_000, { acquireTimeout: 30 })),
      );
      expect(ms).toBe(30);
      expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
      expect(error.message).toContain("node-1:6379 had not answered yet");
    }),
  );

  it(
    "says that the majority came too late, where it did so within acquireTimeout",
    played(async (stage) => {
      const client = await stage.connect({ nodeTimeout: 200 });
      setRoundTrip(client, 100);
      const error = await rejection(client.redlock.acquire("r", 103, { acquireTimeout: 150 }));
      expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
    }),
  );

  it(
    "counts acquireTimeout by the monotonic clock: a step of the wall clock ends no waiting",
    played(async (stage) => {
      for (const queue of [true, false]) {
        const { redlock, host } = await stage.connect({ queue });
        for (const stepMs of [60_000, -60_000]) {
          stage.occupy(ALL, "r");
          const acquiring = stage.timed(
            rejection(redlock.acquire("r", 1000, { acquireTimeout: 4000 })),
          );
          await stage.sleep(100);
          host.stepWall(stepMs);
          const { ms, gives: error } = await acquiring;
          expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
          expect(error.message).toMatch(/attempts in (3\.[89]|4\.0) s/);
          expect(ms).toBeGreaterThan(3700);
          expect(ms).toBeLessThanOrEqual(4000);
        }
      }
    }),
  );

  it(
    "is one attempt, as long as that takes, with an acquireTimeout of 0",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.occupy([0, 1], "r");
      stage.freeze([2, 3, 4]);
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.acquire("r", 10_000, { acquireTimeout: 0 })),
      );
      expect(ms).toBe(500);
      expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
      expect(error.attempts).toHaveLength(1);
    }),
  );

  it(
    "ends within its budget while a majority hangs",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 3, nodeTimeout: 70 });
      stage.freeze([0, 1, 2]);
      const { ms } = await stage.timed(rejection(redlock.acquire("r", 10_000)));
      // Silent servers vote against at once from the second attempt on.
      expect(ms).toBe(70 + 3 * 200);
    }),
  );
});

describe("while a failed call finds out why it failed,", () => {
  const MINE = { nodeTimeout: 4000, retryCount: 0 };
  const NODES = { down: [0], frozen: [1, 2], holding: [3, 4] };
  const calls = ["acquire", "tryAcquire"] as const;
  const kinds = [{}, { permits: 2 }];
  const ways = calls.flatMap((call) => kinds.map((settings) => [call, settings] as const));

  /** A call that two nodes refuse, and two do not answer. */
  async function fail(
    stage: Stage,
    call: (typeof calls)[number],
    settings: Settings,
  ): Promise<{ client: Client; failed: ReturnType<typeof rejection> }> {
    const client = await stage.connect({ ...MINE });
    for (const key of ["r", "{r}:redlock:permit:0", "{r}:redlock:permit:1"])
      stage.occupy(NODES.holding, key);
    stage.crash(NODES.down);
    stage.freeze(NODES.frozen, 5000);
    await stage.sleep(10);
    return { client, failed: rejection(client.redlock[call]("r", 10_000, settings)) };
  }

  it.each(ways)("its signal ends %s at once, with %p", (call, settings) =>
    played(async (stage) => {
      const controller = new AbortController();
      const { failed } = await fail(stage, call, { ...settings, signal: controller.signal });
      await stage.sleep(100);
      controller.abort(new Error("enough"));
      const { ms, gives } = await stage.timed(failed);
      expect([gives.message, ms]).toEqual(["enough", 0]);
      await stage.sleep(10_000);
    })(),
  );

  it(
    "its signal ends it at once also where the nodes do not agree who holds the resource",
    played(async (stage) => {
      const { redlock } = await stage.connect(MINE);
      for (const [index, server] of stage.servers.entries()) {
        server.redis.execute("set", ["r", `${index}`, "PX", "20000"], server.clockMs);
      }
      stage.freeze([4], 5000);
      await stage.sleep(10);
      const controller = new AbortController();
      const { signal } = controller;
      const failed = rejection(redlock.acquire("r", 10_000, { signal }));
      await stage.sleep(100);
      controller.abort(new Error("enough"));
      const { ms, gives } = await stage.timed(failed);
      expect([gives.message, ms]).toEqual(["enough", 0]);
      await stage.sleep(10_000);
    }),
  );

  it.each(ways)("a drain ends %s at once, with %p", (call, settings) =>
    played(async (stage) => {
      const { client, failed } = await fail(stage, call, settings);
      await stage.sleep(100);
      const closed = client.redlock.quit({ drain: 5000 });
      const { ms, gives } = await stage.timed(failed);
      expect([gives.code, ms]).toEqual(["ERR_REDLOCK_CLOSED", 0]);
      await closed;
    })(),
  );
});

describe("a signal", () => {
  it(
    "that is aborted already lets nothing be sent",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const reason = new Error("shutting down");
      const settings = { signal: AbortSignal.abort(reason) };
      expect(await rejection(redlock.acquire("r", 1000, settings))).toBe(reason);
      expect(await rejection(redlock.tryAcquire("r", 1000, settings))).toBe(reason);
      expect(stage.asked).toEqual([]);
    }),
  );

  it(
    "ends a pause between attempts at once, with its reason",
    played(async (stage) => {
      const { redlock, host } = await stage.connect();
      stage.occupy(ALL, "r");
      const reason = new Error("shutting down");
      const controller = new AbortController();
      const acquiring = rejection(redlock.acquire("r", 1000, { signal: controller.signal }));
      await stage.sleep(50);
      controller.abort(reason);
      expect(await stage.timed(acquiring)).toEqual({ ms: 0, gives: reason });
      expect(host.timers.size).toBe(0);
      expect(getEventListeners(controller.signal, "abort")).toEqual([]);
    }),
  );

  it(
    "ends an undecided attempt at once, which is released",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.freeze([0, 1, 2], 100);
      const reason = new Error("shutting down");
      const controller = new AbortController();
      const acquiring = rejection(redlock.acquire("r", 10_000, { signal: controller.signal }));
      await stage.sleep(20);
      controller.abort(reason);
      expect(await stage.timed(acquiring)).toEqual({ ms: 0, gives: reason });
      await stage.sleep(200);
      expect(stage.holders("r", "a1")).toEqual([]);
      expect(stage.questions("set")).toHaveLength(5);
    }),
  );

  it(
    "ends the look at what the keys hold, too",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      stage.occupy(ALL, "r");
      const reason = new Error("shutting down");
      const controller = new AbortController();
      const acquiring = rejection(redlock.acquire("r", 10_000, { signal: controller.signal }));
      await stage.sleep(3);
      controller.abort(reason);
      expect(await stage.timed(acquiring)).toEqual({ ms: 0, gives: reason });
    }),
  );

  it(
    "keeps no listener of those that have acquired",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const { signal } = new AbortController();
      for (let index = 0; index < 20; index++) await redlock.acquire(`r${index}`, 1000, { signal });
      expect(getEventListeners(signal, "abort")).toEqual([]);
    }),
  );
});

describe("tryAcquire", () => {
  it(
    "gives the lock where it is free, and null at once where it is held",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      const other = await stage.connect();
      const lock = await redlock.tryAcquire("r", 1000);
      expect(lock?.valid).toBe(true);
      expect(await stage.timed(other.redlock.tryAcquire("r", 1000))).toEqual({
        ms: 2,
        gives: null,
      });
      await stage.sleep(2);
      expect(stage.holders("r", "b1")).toEqual([]);
    }),
  );

  it(
    "gives null where votes for and held answers together are a quorum",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.occupy([0], "r");
      stage.crash([3, 4]);
      await stage.sleep(2);
      expect(await stage.timed(redlock.tryAcquire("r", 1000))).toEqual({ ms: 2, gives: null });
    }),
  );

  it(
    "waits for undecided servers only to tell held from broken",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      stage.occupy([0, 1], "r");
      stage.crash([2]);
      for (const link of links.slice(3)) link.extraDelayMs = 14;
      await stage.sleep(2);
      expect(await stage.timed(redlock.tryAcquire("r", 1000))).toEqual({ ms: 30, gives: null });
    }),
  );

  it(
    "rejects where too few answered to tell, after one attempt",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.occupy([0, 1], "r");
      stage.freeze([2, 3, 4]);
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.tryAcquire("r", 1000, { acquireTimeout: 5000 })),
      );
      expect(ms).toBe(50);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.attempts).toHaveLength(1);
    }),
  );

  it(
    "rejects where the majority came too late, though all of it voted for the lock",
    played(async (stage) => {
      const client = await stage.connect({ nodeTimeout: 200 });
      setRoundTrip(client, 110);
      const error = await rejection(client.redlock.tryAcquire("r", 100));
      expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
    }),
  );

  it(
    "rejects with the signal's reason where that was aborted meanwhile",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      stage.occupy(ALL, "r");
      const reason = new Error("shutting down");
      const controller = new AbortController();
      const trying = rejection(redlock.tryAcquire("r", 1000, { signal: controller.signal }));
      await stage.sleep(1);
      controller.abort(reason);
      expect(await trying).toBe(reason);
    }),
  );
});

describe("a key that holds no lock", () => {
  it(
    "is named in the refusal, since SET NX only answers that it is held",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      for (const { redis, clockMs } of stage.servers.slice(0, 3)) {
        redis.execute("zadd", ["r", "1", "x"], clockMs);
      }
      const single = await rejection(redlock.acquire("r", 1000));
      expect(single.message).toContain(
        "node-1:6379 key holds a zset, node-2:6379 key holds a zset,",
      );
      const several = await rejection(redlock.acquire(["q", "r"], 1000));
      expect(several.message).toContain("node-1:6379 key holds a zset (r),");
      // Once each: those that had not voted could have answered that it is held.
      expect(stage.questions("inspect").map(({ node }) => node)).toEqual([...ALL, ...ALL]);
    }),
  );

  it.each([true, false])(
    "is named by every server where acquireTimeout was spent waiting, and no later: queue is %s",
    (queue) =>
      played(async (stage) => {
        const { redlock } = await stage.connect({ queue });
        for (const { redis, clockMs } of stage.servers)
          redis.execute("zadd", ["r", "1", "x"], clockMs);
        for (const acquireTimeout of [40, 250, 2000]) {
          const settings = { acquireTimeout, retryDelay: 30, retryJitter: 10 };
          const { ms, gives } = await stage.timed(rejection(redlock.acquire("r", 1000, settings)));
          expect(ms).toBeLessThanOrEqual(acquireTimeout);
          expect(gives.code).toBe("ERR_REDLOCK_TIMEOUT");
          expect(gives.message.match(/key holds a zset/g)?.length).toBeGreaterThanOrEqual(3);
          expect(gives.message).not.toContain("held by another lock");
        }
      })(),
  );

  it(
    "is not looked for while there is time to wait, nor once the lock was given",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      stage.occupy(ALL, "r", 1000);
      await redlock.acquire("r", 1000, { acquireTimeout: 2000 });
      await stage.sleep(5000);
      expect(stage.questions("inspect")).toEqual([]);
    }),
  );

  it(
    "is named by servers that refused while the others were looked at",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ retryCount: 0 });
      for (const { redis, clockMs } of stage.servers)
        redis.execute("zadd", ["r", "1", "x"], clockMs);
      for (const link of links.slice(3)) link.extraDelayMs = 0.5;
      const { message } = await rejection(redlock.acquire("r", 1000));
      expect(message.match(/key holds a zset/g)).toHaveLength(5);
    }),
  );

  it(
    "is looked for within the call's time: one more nodeTimeout where a pause would have been",
    played(async (stage) => {
      const client = await stage.connect({ retryCount: 0, nodeTimeout: 100 });
      stage.occupy(ALL, "r");
      const msOf = async (settings?: Settings): Promise<number> =>
        (await stage.timed(rejection(client.redlock.acquire("r", 10_000, settings)))).ms;
      setRoundTrip(client, 90);
      expect(await msOf()).toBe(180);
      expect(await msOf({ retryDelay: 50, retryJitter: 20 })).toBe(170);
      expect(await msOf({ retryDelay: 0, retryJitter: 0 })).toBe(100);
      expect(await msOf({ acquireTimeout: 0 })).toBe(100);
      expect(await msOf({ acquireTimeout: 150 })).toBe(150);
    }),
  );

  it(
    "is looked for only where the answer was that it is held",
    played(async (stage) => {
      const client = await stage.connect({ retryCount: 0, nodeTimeout: 300 });
      stage.occupy([1, 2], "r");
      setRoundTrip(client, 20);
      for (const link of client.links.slice(1, 3)) link.extraDelayMs = 60;
      client.links[0]?.reset();
      await rejection(client.redlock.acquire("r", 10_000));
      expect(client.links[0]?.state).toBe("ready");
      expect(stage.questions("inspect").map(({ node }) => node)).toEqual([1, 2]);
    }),
  );

  it(
    "is looked for only within acquireTimeout",
    played(async (stage) => {
      const client = await stage.connect();
      stage.occupy(ALL, "r");
      setRoundTrip(client, 40);
      const { ms } = await stage.timed(
        rejection(client.redlock.acquire("r", 10_000, { acquireTimeout: 60 })),
      );
      expect(ms).toBe(60);
    }),
  );
});

describe("a Redlock", () => {
  it(
    "knows its clients and its settings",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 7 });
      expect([...redlock.clients]).toHaveLength(5);
      expect(redlock.settings.retryCount).toBe(7);
      expect(redlock.settings.retryDelay).toBe(200);
    }),
  );

  it("takes no custom scripts", () => {
    expect(() => new Redlock(["redis://localhost"], {}, {})).toThrow(
      /^Redlock takes no third argument/,
    );
  });

  it.each([
    ["nobody ever listened", () => undefined],
    ["all listeners were removed", (redlock: Redlock) => redlock.removeAllListeners()],
    ["those of errors were removed", (redlock: Redlock) => redlock.removeAllListeners("error")],
  ])("does not crash the process where %s: a vote against is told to a monitor only", (_, remove) =>
    played(async (stage) => {
      const { redlock, errors, onError } = await stage.connect({ retryCount: 0 });
      redlock.off("error", onError);
      remove(redlock);
      const monitored: unknown[] = [];
      (redlock as EventEmitter).on(errorMonitor, (_error, node) => monitored.push(node));
      stage.occupy(ALL, "r");
      await rejection(redlock.acquire("r", 1000));
      expect(errors).toEqual([]);
      expect(monitored).toHaveLength(5);
    })(),
  );
});
