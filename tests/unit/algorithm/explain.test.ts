import { describe, expect, it } from "@jest/globals";
import type { ExecutionError } from "../../../src/errors.js";
import type { Settings } from "../../../src/settings.js";
import { played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
const OWNER_VALUE = "0123456789abcdef0123456789abcdef api-7/4211";

/** Puts the lock of a process with a name on these servers. */
function occupy({ servers }: Stage, indexes: readonly number[], key: string, ttlMs: number): void {
  for (const index of indexes) {
    const server = servers[index];
    server?.redis.execute("set", [key, OWNER_VALUE, "PX", String(ttlMs)], server.clockMs);
  }
}

const situations: readonly {
  readonly situation: string;
  readonly reason: "held" | "unavailable";
  readonly arrange: (stage: Stage) => void;
}[] = [
  {
    situation: "everybody says that it is held",
    reason: "held",
    arrange: (stage) => {
      occupy(stage, ALL, "r", 60_000);
    },
  },
  {
    situation: "it is held, and one node hangs",
    reason: "held",
    arrange: (stage) => {
      occupy(stage, ALL, "r", 60_000);
      stage.freeze([2]);
    },
  },
  {
    situation: "it is held, and two nodes are dead",
    reason: "held",
    arrange: (stage) => {
      occupy(stage, ALL, "r", 60_000);
      stage.crash([0, 4]);
    },
  },
  {
    situation: "a bare quorum holds it",
    reason: "held",
    arrange: (stage) => {
      occupy(stage, [0, 1, 2], "r", 60_000);
    },
  },
  {
    situation: "a majority hangs",
    reason: "unavailable",
    arrange: (stage) => {
      stage.freeze([0, 1, 2]);
    },
  },
  {
    situation: "a majority is dead",
    reason: "unavailable",
    arrange: (stage) => {
      stage.crash([0, 1, 2]);
    },
  },
  {
    situation: "all nodes are dead",
    reason: "unavailable",
    arrange: (stage) => {
      stage.crash(ALL);
    },
  },
  {
    situation: "half says that it is held, and half is dead",
    reason: "unavailable",
    arrange: (stage) => {
      occupy(stage, [3, 4], "r", 60_000);
      stage.crash([0, 1, 2]);
    },
  },
];

const ways: readonly { readonly way: string; readonly settings: Settings }[] = [
  { way: "one attempt", settings: { retryCount: 0 } },
  { way: "eleven attempts", settings: {} },
  { way: "acquireTimeout: 0", settings: { acquireTimeout: 0 } },
  // It ends in the middle of an attempt, which then tells nothing.
  ...[130, 201, 301, 1003].map((ms) => ({
    way: `acquireTimeout: ${ms}`,
    settings: { acquireTimeout: ms, retryDelay: 100, retryJitter: 0 },
  })),
  { way: "the queue", settings: { queue: true, acquireTimeout: 3000 } },
];

describe("the reason of a failed acquire", () => {
  for (const { situation, reason, arrange } of situations) {
    it.each(ways)(`is "${reason}" where ${situation}: $way`, ({ settings }) =>
      played(async (stage) => {
        const { redlock } = await stage.connect();
        arrange(stage);
        await stage.sleep(2);
        const error = await rejection(redlock.acquire("r", 2000, settings));
        expect(error).toMatchObject({ reason, resources: ["r"] });
        expect(error.message).toContain(
          reason === "held"
            ? "r is held by api-7/4211 for another"
            : "Too few nodes granted r in time.",
        );
        expect(error.code).toBe(
          settings.acquireTimeout === undefined ? "ERR_REDLOCK_QUORUM" : "ERR_REDLOCK_TIMEOUT",
        );
        await stage.sleep(5000);
      })(),
    );
  }
});

it(
  "says for how long the lock is held from then on, not from when it looked",
  played(async (stage) => {
    const { redlock } = await stage.connect({ queue: true });
    const lock = await redlock.acquire("r", 10_000);
    const settings = { acquireTimeout: 4000, nodeTimeout: 3000 };
    const { message } = await rejection(redlock.acquire("r", 30_000, settings));
    const [, seconds] = /for another ([\d.]+) s/.exec(message) ?? [];
    expect(Math.abs(Number(seconds) * 1000 - lock.remaining)).toBeLessThan(200);
    await lock.release();
  }),
);

describe("the message of a waiter that gave up", () => {
  it(
    "says nothing of its place if it gave up before the nodes had told it",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      const lock = await redlock.acquire("r", 10_000);
      const late = await stage.connect({ queue: true });
      for (const link of late.links) link.extraDelayMs = 20;
      const error = await rejection(late.redlock.acquire("r", 5000, { acquireTimeout: 60 }));
      expect(error).toMatchObject({ reason: "held" });
      expect(error.message).not.toContain("in the queue");
      await lock.release();
    }),
  );

  it(
    "says its place in the queue, how fast that moved, and what would have been enough",
    played(async (stage) => {
      const { redlock } = await stage.connect({ queue: true });
      const work = (): Promise<void> => stage.sleep(48);
      // Each turn takes 50 ms and some round trips.
      const others = Array.from({ length: 40 }, () =>
        redlock.using("r", 1000, { acquireTimeout: 60_000 }, work),
      );
      await stage.sleep(1);
      const error = await rejection(redlock.acquire("r", 1000, { acquireTimeout: 1000 }));
      const [, waited, place, pace, neededS] =
        /It waited (1\.0 s) and was (\d+)(?:st|nd|rd|th) in the queue, which moved (\d+) times a second: a larger acquireTimeout of about ([\d.]+) s would have been enough\.$/.exec(
          error.message,
        ) ?? [];
      expect(waited).toBe("1.0 s");
      const startMs = stage.nowMs;
      expect(Number(place) + Number(pace)).toBeGreaterThan(39);
      expect(Number(place) + Number(pace)).toBeLessThan(43);
      await Promise.all(others);
      const tookMs = 1000 + stage.nowMs - startMs;
      expect(Number(neededS) * 1000).toBeGreaterThan(0.9 * tookMs);
      expect(Number(neededS) * 1000).toBeLessThan(1.15 * tookMs);
    }),
  );

  it(
    "says that the lock is held, and by whom, though another call's attempt was the last and got it",
    played(async (stage) => {
      const { redlock } = await stage.connect({
        queue: true,
        retryCount: 10,
        retryDelay: 200,
        retryJitter: 100,
      });
      const calls = Array.from({ length: 100 }, () =>
        redlock.using("r", 1000, () => stage.sleep(50)),
      );
      const settled = await Promise.allSettled(calls);
      const failed = settled.flatMap((call) =>
        call.status === "rejected" ? [call.reason as ExecutionError] : [],
      );
      // The default retries are over after 2 s, in which some forty of the calls have their turn.
      expect(failed.length).toBeGreaterThan(40);
      for (const error of failed) {
        expect(error).toMatchObject({ code: "ERR_REDLOCK_QUORUM", reason: "held" });
        expect(error.message).toContain(" r is held by another lock for another ");
        expect(error.message).toMatch(/ It waited \d\.\d s and was \S+ in the queue/);
      }
      expect(failed.map(({ message }) => message)).toContainEqual(
        expect.stringMatching(
          /; the last was that of another call, which got the lock\. It waited/,
        ),
      );
    }),
  );

  it(
    "counts the waiters of other processes",
    played(async (stage) => {
      const clients = await Promise.all(
        Array.from({ length: 5 }, () => stage.connect({ queue: true })),
      );
      stage.occupy(ALL, "r", 20_000);
      const waiting = clients.map(async ({ redlock }, index) => {
        await stage.sleep(20 * index);
        return rejection(redlock.acquire("r", 1000, { acquireTimeout: 3000 }));
      });
      const messages = (await Promise.all(waiting)).map(({ message }) => message);
      expect(messages[0]).toMatch(/It waited 3\.0 s and was next in the queue\.$/);
      expect(messages[1]).toMatch(/It waited 3\.0 s and was (?:2nd|next) in the queue/);
      expect(messages[4]).toMatch(/It waited 3\.0 s and was \S+ in the queue/);
    }),
  );
});

describe("the errors of other calls", () => {
  it(
    "name the lock, and say whether it has ended",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      const lock = await redlock.acquire(["r", "s", "t", "u", "v"], 1000);
      stage.freeze([0, 1, 2], 100);
      const unavailable = await rejection(lock.extend(1000));
      expect(unavailable).toMatchObject({ reason: "unavailable" });
      expect(unavailable.message).toContain("The lock on r, s, t and 2 more was not extended.");
      const unconfirmed = await rejection(lock.release());
      expect(unconfirmed).toMatchObject({ reason: "unavailable" });
      expect(unconfirmed.message).toContain(
        "The release of the lock on r, s, t and 2 more was not",
      );
      const ended = await rejection(lock.extend(1000));
      expect(ended).toMatchObject({ reason: "expired", code: "ERR_REDLOCK_EXPIRED" });
      expect(ended.message).toContain("The one on r, s, t and 2 more was released");
    }),
  );

  it(
    "are printed without their attempts and their locks",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      stage.occupy(ALL, "r");
      const held = await rejection(redlock.acquire("r", 1000));
      expect(held.attempts).toHaveLength(1);
      expect(Object.keys(held).sort()).toEqual(["code", "name", "reason"]);
      expect(held).toHaveProperty("resources", ["r"]);
      const lock = await redlock.acquire("s", 1000);
      await stage.sleep(1000);
      const { reason: lost } = lock.signal as { reason: unknown };
      expect(Object.keys(lost as Error).sort()).toEqual(["code", "name", "reason"]);
    }),
  );
});
