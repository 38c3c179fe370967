import { describe, expect, it } from "@jest/globals";
import { type ExecutionError, LockLostError, type RedlockAbortSignal } from "../../../src/index.js";
import { played, rejection } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];

describe("inspect", () => {
  it(
    "says what each server holds of each resource",
    played(async (stage) => {
      const { redlock } = await stage.connect({ keyPrefix: "lock:" });
      const lock = await redlock.acquire("r", 1000);
      stage.crash([4]);
      await stage.sleep(10);
      const inspections = await redlock.inspect(["r", "s"]);
      expect(inspections.map(({ node, ok }) => [node, ok])).toEqual([
        ["node-1:6379", true],
        ["node-2:6379", true],
        ["node-3:6379", true],
        ["node-4:6379", true],
        ["node-5:6379", false],
      ]);
      expect(inspections[0]?.resources).toEqual([
        {
          resource: "r",
          key: "lock:r",
          type: "string",
          value: lock.value,
          remainingMs: 988,
          waiters: [],
        },
        { resource: "s", key: "lock:s", type: "none", value: null, remainingMs: 0, waiters: [] },
      ]);
      expect(await rejection(redlock.inspect(""))).toBeInstanceOf(TypeError);
    }),
  );

  it(
    "waits for a silent server for 250 ms, or as the setting says",
    played(async (stage) => {
      const usual = await stage.connect();
      const quick = await stage.connect({ nodeTimeout: 70 });
      stage.freeze([0]);
      expect((await stage.timed(usual.redlock.inspect("r"))).ms).toBe(250);
      expect((await stage.timed(quick.redlock.inspect("r"))).ms).toBe(70);
    }),
  );
});

describe("a Redlock that is closed", () => {
  it(
    "refuses every call, ends every waiting, and asks nobody any more",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: -1 });
      const held = await redlock.acquire("r", 20_000);
      const waiting = rejection(redlock.acquire("r", 1000));
      const using = rejection(redlock.using("r", 1000, () => 1));
      await stage.sleep(50);
      const quitting = redlock.quit();
      const { ms, gives: error } = await stage.timed(waiting);
      expect(ms).toBe(0);
      expect(error.code).toBe("ERR_REDLOCK_CLOSED");
      expect(error.attempts).toEqual([]);
      expect((await using).code).toBe("ERR_REDLOCK_CLOSED");
      const closedMs = stage.nowMs;
      for (const refused of [
        redlock.acquire("s", 1000),
        redlock.tryAcquire("s", 1000),
        redlock.using("s", 1000, () => 1),
        redlock.extend(held, 1000),
        redlock.release(held),
        redlock.inspect("s"),
      ]) {
        expect((await rejection(refused)).code).toBe("ERR_REDLOCK_CLOSED");
      }
      await quitting;
      await stage.sleep(100);
      expect(stage.asked.filter(({ atMs, what }) => atMs > closedMs && what !== "quit")).toEqual(
        [],
      );
    }),
  );

  it(
    "tells nobody of the release of a lock that has expired, which resolves",
    played(async (stage) => {
      const { redlock } = stage.client({}, stage.machine(false));
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(1000);
      await redlock[Symbol.asyncDispose]();
      expect((await redlock.release(lock)).attempts).toEqual([]);
      await stage.sleep(5);
      expect(stage.questions("release")).toEqual([]);
    }),
  );

  it.each(["quit", "disposal"])("clears away what an attempt under way has taken: %s", (how) =>
    played(async (stage) => {
      const { redlock, links } = stage.client({}, stage.machine(false));
      await stage.sleep(10);
      for (const index of [2, 3, 4]) if (links[index]) links[index].extraDelayMs = 20;
      const attempts = [
        rejection(redlock.acquire("r", 20_000)),
        rejection(redlock.tryAcquire("s", 20_000)),
        rejection(redlock.using("t", 20_000, () => "ran")),
      ];
      await stage.sleep(5);
      const closed = how === "quit" ? redlock.quit() : redlock[Symbol.asyncDispose]();
      for (const attempt of attempts) expect((await attempt).code).toBe("ERR_REDLOCK_CLOSED");
      await closed;
      await stage.sleep(100);
      expect(stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs))).toEqual([]);
    })(),
  );

  it.each(["quit", "disposal"])("ends the locks of running using calls: %s", (how) =>
    played(async (stage) => {
      const { redlock } = stage.client({}, stage.machine(false));
      await stage.sleep(10);
      const kept = await redlock.acquire("kept", 20_000);
      const own = new Error("own");
      const signals: RedlockAbortSignal[] = [];
      const work = async (signal: RedlockAbortSignal): Promise<void> => {
        signals.push(signal);
        await stage.sleep(100);
      };
      const using = [
        rejection(redlock.using("r", 20_000, work)),
        rejection(
          redlock.using("s", 20_000, (signal) =>
            work(signal).then(() => {
              throw own;
            }),
          ),
        ),
        redlock.using("released", 20_000, async (signal, lock) => {
          await lock.release();
          await work(signal);
        }),
      ] as const;
      await stage.sleep(50);
      const closed = how === "quit" ? redlock.quit() : redlock[Symbol.asyncDispose]();
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, false]);
      await closed;
      await stage.sleep(5);
      const keys = stage.servers.map(({ redis, clockMs }) => redis.keys(clockMs));
      expect(keys).toEqual(ALL.map(() => ["kept"]));
      expect(kept.valid).toBe(true);
      const { ms, gives: error } = await stage.timed(using[0]);
      expect(ms).toBeGreaterThan(40);
      expect(error).toBe(signals[0]?.error);
      expect(error).toBeInstanceOf(LockLostError);
      expect((error.cause as ExecutionError).code).toBe("ERR_REDLOCK_CLOSED");
      expect(error.message).toBe(
        "The lock on r, with a ttl of 20.0 s, was lost: its Redlock was closed before it was released. " +
          "Let what runs under its locks end before quit() or disposal, or give it time: quit({ drain: 5000 }).",
      );
      expect(await using[1]).toBe(own);
      await using[2];
      stage.forget(ALL, "kept");
    })(),
  );

  it(
    "releases the lock of a running using behind an extension that is under way, and once",
    played(async (stage) => {
      const { redlock, links } = stage.client({}, stage.machine(false));
      await stage.sleep(10);
      const settings = { automaticExtensionThreshold: 900 };
      const using = rejection(
        redlock.using("r", 1000, settings, async (signal, lock) => {
          signal.addEventListener("abort", () => {
            void lock.release();
          });
          await stage.sleep(500);
        }),
      );
      await stage.sleep(50);
      for (const link of links) link.extraDelayMs = 20;
      const before = stage.questions("extend").length;
      await stage.sleep(45);
      expect(stage.questions("extend").length).toBe(before);
      await redlock.quit();
      expect(stage.questions("extend").length).toBeGreaterThan(before);
      await using;
      expect(stage.questions("release")).toHaveLength(5);
      expect(stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs))).toEqual([]);
    }),
  );

  it(
    "refuses, and releases, a lock that is granted while it closes",
    played(async (stage) => {
      const { redlock } = stage.client({}, stage.machine(false));
      await stage.sleep(10);
      // The votes are counted by then, and the attempt has not gone on yet.
      const { signal } = new AbortController();
      let closed: Promise<void> | undefined;
      signal.removeEventListener = () => {
        closed ??= redlock.quit();
      };
      const error = await rejection(redlock.acquire("r", 20_000, { signal }));
      expect(error.code).toBe("ERR_REDLOCK_CLOSED");
      await closed;
      await stage.sleep(10);
      expect(stage.questions("set")).toHaveLength(5);
      expect(stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs))).toEqual([]);
    }),
  );

  it.each(Array.from({ length: 13 }, (_, index) => index))(
    "leaves no lock of using behind, %d microtasks after the last vote that counts",
    (microtasks) =>
      played(async (stage) => {
        const { redlock, links } = stage.client({}, stage.machine(false));
        await stage.sleep(10);
        const [, , third] = links;
        if (third === undefined) throw new Error("no such server");
        const send = third.send.bind(third);
        let closed: Promise<void> | undefined;
        third.send = async (...args) => {
          const reply = await send(...args);
          const countDown = (left: number): void => {
            if (left > 0)
              queueMicrotask(() => {
                countDown(left - 1);
              });
            else closed ??= redlock.quit();
          };
          countDown(microtasks);
          return reply;
        };
        const ran: true[] = [];
        const error = await rejection(
          redlock.using("r", 20_000, (signal) => {
            ran.push(true);
            return new Promise((resolve) => {
              if (signal.aborted) resolve(undefined);
              else signal.addEventListener("abort", resolve);
            });
          }),
        );
        expect(error).toMatchObject({
          code: ran.length > 0 ? "ERR_REDLOCK_LOST" : "ERR_REDLOCK_CLOSED",
        });
        await closed;
        expect(stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs))).toEqual([]);
      })(),
  );

  it(
    "leaves the line",
    played(async (stage) => {
      const holder = await stage.connect();
      const { redlock } = await stage.connect({ queue: true, retryCount: -1 });
      const lock = await holder.redlock.acquire("r", 20_000);
      const waiting = rejection(redlock.acquire("r", 1000));
      await stage.sleep(100);
      const keys = () => stage.servers.map(({ redis, clockMs }) => redis.keys(clockMs).length);
      expect(keys()).toEqual(ALL.map(() => 3));
      await redlock.quit();
      expect((await waiting).code).toBe("ERR_REDLOCK_CLOSED");
      await stage.sleep(10);
      expect(keys()).toEqual(ALL.map(() => 1));
      await lock.release();
    }),
  );

  it(
    "does not keep what it owes",
    played(async (stage) => {
      const { redlock, host } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire("r", 20_000);
      stage.freeze([0], 1000);
      await stage.sleep(1);
      await redlock.release(lock);
      await stage.sleep(1000);
      stage.crash([1]);
      await stage.sleep(10);
      const another = await redlock.acquire("s", 20_000);
      await redlock.release(another);
      await redlock.quit();
      expect(host.timers.size).toBe(0);
    }),
  );
});

describe("quit", () => {
  it(
    "ends every connection, also of clients passed in",
    played(async (stage) => {
      const { redlock, links } = await stage.connect();
      await redlock.quit();
      await stage.sleep(5);
      expect(links.map(({ state }) => state)).toEqual(ALL.map(() => "down"));
      const owned = stage.client({}, stage.machine(false));
      await stage.sleep(10);
      await owned.redlock.quit();
      await stage.sleep(5);
      expect(owned.links.map(({ state }) => state)).toEqual(ALL.map(() => "down"));
    }),
  );

  it(
    "cuts the connection of a server that does not answer within 250 ms, or as the setting says",
    played(async (stage) => {
      const usual = await stage.connect();
      const quick = await stage.connect({ nodeTimeout: 70 });
      stage.freeze([0]);
      expect((await stage.timed(usual.redlock.quit())).ms).toBe(250);
      expect((await stage.timed(quick.redlock.quit())).ms).toBe(70);
      await stage.sleep(5);
      expect(usual.links[0]?.state).toBe("down");
    }),
  );
});

describe("disposal", () => {
  it(
    "ends the connections that the library made, and leaves the caller's clients open",
    played(async (stage) => {
      const own = await stage.connect();
      const passedIn = stage.client({}, stage.machine(false));
      await stage.sleep(10);
      await own.redlock[Symbol.asyncDispose]();
      await passedIn.redlock[Symbol.asyncDispose]();
      await stage.sleep(5);
      expect(own.links.map(({ state }) => state)).toEqual(ALL.map(() => "down"));
      expect(passedIn.links.map(({ state }) => state)).toEqual(ALL.map(() => "ready"));
      expect((await rejection(passedIn.redlock.acquire("r", 1000))).code).toBe(
        "ERR_REDLOCK_CLOSED",
      );
    }),
  );
});
