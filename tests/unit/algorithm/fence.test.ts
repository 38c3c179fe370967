import { describe, expect, it } from "@jest/globals";
import type { Lock } from "../../../src/lock.js";
import { acquireOperation } from "../../../src/operations/acquire-fenced.js";
import { confirmFenceOperation } from "../../../src/operations/confirm-fence.js";
import { extendOperation } from "../../../src/operations/extend-fenced.js";
import { played, rejection, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
const DAY_MS = 86_400_000;
const FENCE = "{r}:redlock:fence";
/** Far above what the hosts propose, whose clocks are at 1000 s. */
const LARGE = 5_000_000_000;

/** Puts a token of another's on these servers. */
function fenceOn(stage: Stage, indexes: readonly number[], token = LARGE, key = FENCE): void {
  for (const index of indexes) {
    const server = stage.servers[index];
    server?.redis.execute("set", [key, `${token} another's`], server.clockMs);
  }
}

function tokensOn(stage: Stage, key = FENCE): number[] {
  return stage.servers.map(({ redis, clockMs }) =>
    Number.parseInt(redis.peek(key, clockMs)?.value ?? "0"),
  );
}

/** The second rounds that reached servers: when, and which servers. */
function confirms(stage: Stage, sinceMs: number): [number, number][] {
  return stage.questions("confirm", sinceMs).map(({ atMs, node }) => [atMs - sinceMs, node]);
}

describe("a fenced acquisition", () => {
  it(
    "takes one round trip, by the host's clock, where no quorum has more",
    played(async (stage) => {
      const { redlock, host, links } = await stage.connect({ fencing: true });
      for (const index of [0, 1]) if (links[index]) links[index].extraDelayMs = 1;
      fenceOn(stage, [0, 1]);
      const startMs = stage.nowMs;
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 1000));
      expect(ms).toBe(2);
      expect(lock.fence).toBe(host.wallAt(startMs) * 1000);
      expect(lock.remaining).toBe(1000 - 12 - 2);
      await stage.sleep(10);
      expect(stage.questions("confirm")).toEqual([]);
      expect(tokensOn(stage)).toEqual([LARGE, LARGE, lock.fence, lock.fence, lock.fence]);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
    }),
  );

  it(
    "takes a second round trip where those that answered first have more, and waits for no other",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ fencing: true });
      for (const index of [3, 4]) if (links[index]) links[index].extraDelayMs = 40;
      fenceOn(stage, [0, 3, 4]);
      const startMs = stage.nowMs;
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 1000));
      // Two acceptances of three votes are not yet a quorum, though the others might have accepted.
      expect(ms).toBe(4);
      expect(lock.fence).toBe(LARGE + 1);
      expect(lock.remaining).toBe(1000 - 12 - 4);
      await stage.sleep(200);
      expect(confirms(stage, startMs).map(([, node]) => node)).toEqual(ALL);
      expect(tokensOn(stage)).toEqual(ALL.map(() => LARGE + 1));
    }),
  );

  it(
    "needs a quorum for the second round, of nodes whose first answer it did not await, too",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ fencing: true, nodeTimeout: 200 });
      for (const index of [3, 4]) if (links[index]) links[index].extraDelayMs = 40;
      fenceOn(stage, ALL);
      const startMs = stage.nowMs;
      const acquiring = stage.timed(redlock.acquire("r", 1000));
      await stage.sleep(2.5);
      stage.freeze([0, 1]);
      const { ms, gives: lock } = await acquiring;
      expect(ms).toBeGreaterThan(80);
      expect(ms).toBeLessThan(200);
      expect(confirms(stage, startMs).map(([, node]) => node)).toEqual([2, 3, 4]);
      expect(lock.fence).toBe(LARGE + 1);
    }),
  );

  it(
    "is refused by a node that has the very token already, under another's value",
    played(async (stage) => {
      const { redlock, host } = await stage.connect({ fencing: true });
      fenceOn(stage, ALL, host.wallAt(stage.nowMs) * 1000);
      const { ms, gives: lock } = await stage.timed(redlock.acquire("r", 1000));
      expect(ms).toBe(4);
      expect(tokensOn(stage).slice(0, 3)).toEqual([lock.fence, lock.fence, lock.fence]);
    }),
  );

  it(
    "proposes above the largest token of all its resources",
    played(async (stage) => {
      const { redlock } = await stage.connect({ fencing: true });
      fenceOn(stage, ALL, LARGE, "{s}:redlock:fence");
      const lock = await redlock.acquire(["r", "s", "t"], 1000);
      expect(lock.fence).toBe(LARGE + 1);
      await stage.sleep(10);
      for (const key of ["{r}:redlock:fence", "{s}:redlock:fence", "{t}:redlock:fence"]) {
        expect(tokensOn(stage, key)).toEqual(ALL.map(() => LARGE + 1));
      }
    }),
  );
});

describe("a second round that fails", () => {
  /** Takes r in vain, where something happens to the servers once they have set the key. */
  async function refused(
    stage: Stage,
    happens: () => void,
    settings: { readonly acquireTimeout?: number; readonly signal?: AbortSignal } = {},
  ): Promise<{ readonly ms: number; readonly gives: Error & { code?: unknown } }> {
    const { redlock } = await stage.connect({ fencing: true, retryCount: 0, nodeTimeout: 100 });
    fenceOn(stage, ALL);
    const acquiring = stage.timed(rejection(redlock.acquire("r", 1000, settings)));
    await stage.sleep(2.5);
    happens();
    return acquiring;
  }

  it(
    "is a failed attempt, over when the nodes' time for the first is, and released everywhere",
    played(async (stage) => {
      const { ms, gives: error } = await refused(stage, () => {
        stage.freeze([0, 1, 2], 500);
      });
      expect(ms).toBeGreaterThanOrEqual(100);
      expect(ms).toBeLessThan(104);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.message).toContain(
        "1 attempt in 100 ms; the last had 2 of 5 votes, 3 needed: node-1:6379 had not answered yet",
      );
      await stage.sleep(800);
      expect(stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs))).toEqual(
        ALL.map(() => FENCE),
      );
    }),
  );

  it(
    "says which nodes lost the lock between the rounds, and writes no token there",
    played(async (stage) => {
      const { ms, gives: error } = await refused(stage, () => {
        stage.forget([0, 1, 2], "r");
        stage.occupy([0], "r");
      });
      expect(ms).toBe(4);
      expect(error.message).toContain("0 of 5 votes, 3 needed: node-1:6379 does not hold the lock");
      expect(tokensOn(stage)).toEqual([LARGE, LARGE, LARGE, LARGE + 1, LARGE + 1]);
    }),
  );

  it(
    "is no null of tryAcquire, since the nodes had set the lock",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ fencing: true, nodeTimeout: 100 });
      fenceOn(stage, ALL);
      stage.occupy([4], "r");
      // The second round begins late, and its nodes could answer after its end.
      for (const link of links) link.extraDelayMs = 20;
      const trying = stage.timed(rejection(redlock.tryAcquire("r", 1000)));
      await stage.sleep(43);
      stage.freeze([0, 1], 500);
      const { ms, gives: error } = await trying;
      expect(ms).toBeLessThan(104);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    }),
  );

  it(
    "does not ask a node that refused the lock, and says that",
    played(async (stage) => {
      const { redlock, errors } = await stage.connect({ fencing: true, retryCount: 0 });
      fenceOn(stage, ALL);
      stage.occupy([0, 1], "r");
      const startMs = stage.nowMs;
      const acquiring = rejection(redlock.acquire("r", 1000));
      await stage.sleep(2.5);
      stage.forget([2], "r");
      expect((await acquiring).message).toContain(
        "node-1:6379 had not set the lock (held by another lock), so was not asked for its token",
      );
      expect(confirms(stage, startMs).map(([, node]) => node)).toEqual([2, 3, 4]);
      // Each node's failed vote is an event once.
      expect(errors.map((line) => line.split(" ")[0])).toEqual([
        "node-1:6379",
        "node-2:6379",
        "node-3:6379",
      ]);
    }),
  );

  it(
    "ends with the signal that ends the waiting",
    played(async (stage) => {
      const controller = new AbortController();
      const { ms, gives: error } = await refused(
        stage,
        () => {
          stage.freeze(ALL, 50);
          controller.abort(new Error("enough"));
        },
        { signal: controller.signal },
      );
      expect(error.message).toBe("enough");
      expect(ms).toBeLessThan(3);
    }),
  );

  it(
    "does not begin in earnest where the signal aborts between the rounds",
    played(async (stage) => {
      const { redlock } = await stage.connect({ fencing: true, nodeTimeout: 100 });
      fenceOn(stage, ALL);
      const controller = new AbortController();
      const { signal } = controller;
      // The library stops listening when a round is decided.
      const remove = signal.removeEventListener.bind(signal);
      signal.removeEventListener = (...args: Parameters<typeof remove>) => {
        remove(...args);
        controller.abort(new Error("enough"));
      };
      const { ms, gives: error } = await stage.timed(
        rejection(redlock.acquire("r", 1000, { signal })),
      );
      expect(error.message).toBe("enough");
      expect(ms).toBe(2);
      await stage.sleep(10);
      expect(stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs))).toEqual(
        ALL.map(() => FENCE),
      );
    }),
  );

  it(
    "is cleared away where the Redlock is closed between the rounds",
    played(async (stage) => {
      const { redlock } = await stage.connect({ fencing: true, nodeTimeout: 100 });
      fenceOn(stage, ALL);
      const { signal } = new AbortController();
      const remove = signal.removeEventListener.bind(signal);
      signal.removeEventListener = (...args: Parameters<typeof remove>) => {
        remove(...args);
        void redlock.quit();
      };
      const error = await rejection(redlock.acquire("r", 20_000, { signal }));
      expect(error.code).toBe("ERR_REDLOCK_CLOSED");
      await stage.sleep(10);
      const keys = stage.servers.flatMap(({ redis, clockMs }) => redis.keys(clockMs));
      expect(keys).toEqual(ALL.map(() => FENCE));
      const order = stage.asked.filter(({ node }) => node === 0).map(({ what }) => what);
      // A real server reads nothing behind a QUIT.
      expect(order.slice(order.indexOf("quit"))).not.toContain("release");
      expect(order).toContain("release");
    }),
  );

  it(
    "ends with acquireTimeout",
    played(async (stage) => {
      const { ms, gives: error } = await refused(
        stage,
        () => {
          stage.freeze(ALL, 500);
        },
        { acquireTimeout: 20 },
      );
      expect(error.code).toBe("ERR_REDLOCK_TIMEOUT");
      expect(ms).toBeLessThan(23);
    }),
  );

  it(
    "is followed by an attempt with a token above all that were seen",
    played(async (stage) => {
      const { redlock } = await stage.connect({ fencing: true, retryDelay: 50, retryJitter: 0 });
      fenceOn(stage, ALL);
      const acquiring = redlock.acquire("r", 1000);
      await stage.sleep(2.5);
      stage.forget(ALL, "r");
      const lock: Lock = await acquiring;
      expect(lock.attempts).toHaveLength(2);
      expect(lock.fence).toBe(LARGE + 2);
    }),
  );

  it(
    "counts the time that it took against the validity",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({
        fencing: true,
        retryCount: 0,
        nodeTimeout: 1000,
      });
      for (const link of links) link.extraDelayMs = 13;
      fenceOn(stage, ALL);
      // One round trip of 28 ms leaves 20 ms of 50, two leave nothing.
      const error = await rejection(redlock.acquire("r", 50));
      expect(error.code).toBe("ERR_REDLOCK_VALIDITY");
      await stage.sleep(60);
      expect(stage.questions("release").length).toBeGreaterThanOrEqual(5);
    }),
  );
});

describe("a token far ahead of every clock", () => {
  it(
    "stays with the resource that has it",
    played(async (stage) => {
      const { redlock, host } = await stage.connect({ fencing: true });
      const WILD = 2 ** 53 - 3;
      fenceOn(stage, ALL, WILD);
      const lock = await redlock.acquire("r", 1000);
      expect(lock.fence).toBe(WILD + 1);
      redlock.adopt({ ...lock.toJSON(), resources: ["t"] });
      const startMs = stage.nowMs;
      const another = await redlock.acquire("s", 1000);
      expect(another.fence).toBe(host.wallAt(startMs) * 1000);
      await lock.release();
      const last = await redlock.acquire("r", 1000);
      expect(last.fence).toBe(2 ** 53 - 1);
      await last.release();
      const error = await rejection(redlock.acquire("r", 1000, { retryCount: 0 }));
      expect(error.message).toContain("no larger fencing token below 2^53 can follow");
    }),
  );

  it(
    "is where the next attempt of the same call begins",
    played(async (stage) => {
      // A second round never has the time that it needs.
      const { redlock, links } = await stage.connect({ fencing: true, nodeTimeout: 30 });
      for (const link of links) link.extraDelayMs = 9;
      const WILD = 2 ** 53 - 1000;
      fenceOn(stage, ALL, WILD);
      const lock = await redlock.acquire("r", 1000);
      expect(lock.attempts).toHaveLength(2);
      expect(lock.fence).toBe(WILD + 2);
      await lock.release();
    }),
  );
});

describe("a command with a token", () => {
  it("names the value that it may set or let live longer, as one without does: a debt waits for it", () => {
    const fence = { token: 7, keys: [FENCE] };
    for (const operation of [acquireOperation, extendOperation]) {
      expect(operation(["r"], "v", 1000, fence).command.sets).toEqual(["v"]);
    }
    expect(confirmFenceOperation(["r"], "v", 1000, fence).command.sets).toEqual([]);
  });
});

describe("a fence key", () => {
  it(
    "lives for a day or ten ttls after the server's time, and an extension renews it",
    played(async (stage) => {
      const { redlock } = await stage.connect({ fencing: true });
      const lock = await redlock.acquire("r", 1000);
      await stage.sleep(500);
      expect(stage.remainingMs(FENCE)).toEqual(ALL.map(() => DAY_MS - 501));
      await lock.extend(1000);
      expect(stage.remainingMs(FENCE)).toEqual(ALL.map(() => DAY_MS - 1));
      await lock.extend(DAY_MS);
      expect(stage.remainingMs(FENCE)).toEqual(ALL.map(() => 10 * DAY_MS - 1));
      await lock.extend(1000);
      expect(stage.remainingMs(FENCE)).toEqual(ALL.map(() => 10 * DAY_MS - 3));
      await lock.release();
    }),
  );

  it(
    "is renewed also where it holds a larger token than the lock's",
    played(async (stage) => {
      const { redlock, links } = await stage.connect({ fencing: true });
      if (links[4]) links[4].extraDelayMs = 1;
      fenceOn(stage, [4]);
      stage.servers[4]?.redis.execute("pexpire", [FENCE, "5000"], stage.servers[4].clockMs);
      const lock = await redlock.acquire("r", 1000);
      expect(lock.fence).toBeLessThan(LARGE);
      await lock.extend(1000);
      await stage.sleep(10);
      expect(tokensOn(stage)[4]).toBe(LARGE);
      expect(stage.remainingMs(FENCE)[4]).toBeGreaterThan(DAY_MS - 100);
      await lock.release();
    }),
  );

  it(
    "comes back to a node that had lost it and the lock, each key with its own",
    played(async (stage) => {
      const { redlock } = await stage.connect({ fencing: true });
      const lock = await redlock.acquire(["r", "s"], 1000);
      await stage.sleep(10);
      stage.forget([1], "r");
      for (const key of ["{r}:redlock:fence", "{s}:redlock:fence"]) stage.forget([1], key);
      await lock.extend(1000);
      await stage.sleep(10);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      expect(tokensOn(stage, "{r}:redlock:fence")).toEqual(ALL.map(() => lock.fence));
      await lock.extend(1000);
      await stage.sleep(10);
      expect(tokensOn(stage, "{s}:redlock:fence")).toEqual(ALL.map(() => lock.fence));
      await lock.release();
    }),
  );
});
