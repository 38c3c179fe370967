import { beforeAll, describe, expect, test } from "@jest/globals";
import { EventEmitter } from "node:events";
import { createRequire } from "node:module";
import { ask, type RedisServer, startServers, stopAll, until } from "../support/servers.js";
import Redlock, {
  type ClientExecutionResult,
  ExecutionError,
  type ExecutionResult,
  type ExecutionStats,
  Lock,
  LockLostError,
  Redlock as NamedRedlock,
  type RedlockAbortSignal,
  ResourceLockedError,
  type Settings,
} from "../../src/index.js";
import { extendScript } from "../../src/operations/extend.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  occupy,
  type RecordingClient,
  rejection,
  untilFree,
  valuesOn,
  valuesAskedFor,
} from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

// What a user of redlock@5.0.0-beta.2 relies on, in the words and shapes of that version.

/** What of redlock@5.0.0-beta.2 is used here; its package gives no types under nodenext. */
interface V5Lock {
  readonly value: string;
  extend(duration: number): Promise<V5Lock>;
  release(): Promise<unknown>;
}
interface V5Redlock {
  acquire(resources: string[], duration: number, settings?: object): Promise<V5Lock>;
}
type V5Constructor = new (clients: Iterable<object>, settings?: object) => V5Redlock;

const { default: V5 } = createRequire(import.meta.url)("redlock-5") as { default: V5Constructor };

/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;

const { servers, clients } = useServersAndClients(3);
let redlock: Redlock;

beforeAll(() => {
  redlock = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS });
});

/** Which of the clients these are, by identity; -1 for another. */
function indexesIn(found: Iterable<unknown>, among: readonly unknown[] = clients): number[] {
  return Array.from(found, (client) => among.indexOf(client));
}

async function remove(resource: string): Promise<void> {
  await Promise.all(servers.map(({ port }) => ask(port, ["DEL", resource])));
}

/** Three clients of three servers of their own, for a test that harms them. */
async function withOwnServers(
  use: (servers: RedisServer[], clients: RecordingClient[]) => Promise<void>,
): Promise<void> {
  const own = await startServers(3);
  try {
    const theirs = await connectAll(own);
    try {
      await use(own, theirs);
    } finally {
      disconnectAll(theirs);
    }
  } finally {
    await stopAll(own);
  }
}

describe("the package", () => {
  test("exports what v5 exports, Redlock as its default", () => {
    expect(NamedRedlock).toBe(Redlock);
    expect(redlock).toBeInstanceOf(EventEmitter);
    expect(new ExecutionError("message", []).name).toBe("ExecutionError");
    expect(new ResourceLockedError("message").name).toBe("ResourceLockedError");
  });

  test("has the types of v5", () => {
    const describeVote = (result: ClientExecutionResult): string =>
      result.vote === "for" ? String(result.value) : result.error.message;
    const [client] = clients;
    expect(describeVote({ client: defined(client), vote: "for", value: 1 })).toBe("1");
    const settings: Partial<Settings> = {
      driftFactor: 0.01,
      retryCount: 10,
      retryDelay: 200,
      retryJitter: 200,
      automaticExtensionThreshold: 500,
    };
    expect(new Redlock(clients, settings).settings).toMatchObject(settings);
  });
});

describe("a Redlock", () => {
  test("has the clients as a Set, in their order", () => {
    expect(redlock.clients).toBeInstanceOf(Set);
    expect(indexesIn(redlock.clients)).toEqual([0, 1, 2]);
    expect(clients.every((client) => redlock.clients.has(client))).toBe(true);
  });

  test("has v5's settings and defaults", () => {
    const defaults = { driftFactor: 0.01, retryCount: 10, retryDelay: 200, retryJitter: 100 };
    expect(redlock.settings).toMatchObject(defaults);
    const given = { driftFactor: 0.1, retryCount: 3, retryDelay: 7, retryJitter: 1 };
    expect(new Redlock(clients, given).settings).toMatchObject(given);
  });

  test("of no clients throws v5's sentence", () => {
    expect(() => new Redlock([])).toThrow(
      /^Redlock must be instantiated with at least one redis client\./,
    );
  });

  test("quits the clients that it was given", async () => {
    await withOwnServers(async (_, theirs) => {
      const other = new Redlock(theirs, { nodeTimeout: NODE_TIMEOUT_MS });
      await (await other.acquire([fresh()], 5000)).release();
      await other.quit();
      const allEnded = (): boolean => theirs.every(({ status }) => status === "end");
      await until(allEnded, 5000, () => "a client did not end");
    });
  });
});

describe("acquire", () => {
  test("gives a lock with v5's properties", async () => {
    const [a, b] = [fresh(), fresh()];
    const before = Date.now();
    const lock = await redlock.acquire([a, b], 5000);
    const after = Date.now();
    expect(lock).toBeInstanceOf(Lock);
    expect(lock.redlock).toBe(redlock);
    expect(lock.resources).toEqual([a, b]);
    expect(lock.value).toMatch(/^[0-9a-f]{32} \S+\/\d+$/);
    expect(Number.isInteger(lock.expiration)).toBe(true);
    expect(lock.expiration).toBeGreaterThanOrEqual(before + 5000 - 52);
    expect(lock.expiration).toBeLessThanOrEqual(after + 5000 - 52);
    await lock.release();
  });

  test("gives a promise of statistics for each attempt, with Sets and Maps of the clients", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 1), resource);
    const lock = await redlock.acquire([resource], 5000);
    expect(lock.attempts).toHaveLength(1);
    const [attempt] = lock.attempts;
    const stats: ExecutionStats = await defined(attempt);
    expect(Object.keys(stats).sort()).toEqual([
      "membershipSize",
      "quorumSize",
      "votesAgainst",
      "votesFor",
    ]);
    expect(stats.membershipSize).toBe(3);
    expect(stats.quorumSize).toBe(2);
    expect(stats.votesFor).toBeInstanceOf(Set);
    expect(indexesIn(stats.votesFor)).toEqual([1, 2]);
    expect(stats.votesAgainst).toBeInstanceOf(Map);
    expect(indexesIn(stats.votesAgainst.keys())).toEqual([0]);
    expect(stats.votesAgainst.get(defined(clients[0]))).toBeInstanceOf(ResourceLockedError);
    await lock.release();
  });

  test("tries retryCount times more, by the call's settings or the constructor's", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const quick = { retryDelay: 1, retryJitter: 1 };
    const once = await rejection(redlock.acquire([resource], 5000, { retryCount: 0 }));
    expect(once.attempts).toHaveLength(1);
    const four = new Redlock(clients, { ...quick, retryCount: 3 });
    expect((await rejection(four.acquire([resource], 5000))).attempts).toHaveLength(4);
    const eleven = await rejection(redlock.acquire([resource], 5000, quick));
    expect(eleven.attempts).toHaveLength(11);
  });

  test("goes on without end with a retryCount of -1", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const settings = { retryCount: -1, retryDelay: 1, retryJitter: 0 };
    const waiting = redlock.acquire([resource], 5000, settings);
    const tries = (): number => valuesAskedFor(clients[0], resource).length;
    await until(
      () => tries() > 15,
      20_000,
      () => `${tries()} tries`,
    );
    await remove(resource);
    await (await waiting).release();
  });

  test("is refused with v5's sentence, and each held resource with v5's vote", async () => {
    const [a, b] = [fresh(), fresh()];
    await occupy(servers, b);
    const error = await rejection(redlock.acquire([a, b], 5000, { retryCount: 0 }));
    expect(error).toBeInstanceOf(ExecutionError);
    expect(error.name).toBe("ExecutionError");
    expect(
      error.message.startsWith(
        "The operation was unable to achieve a quorum during its retry window.",
      ),
    ).toBe(true);
    const [stats] = await Promise.all(error.attempts);
    expect(defined(stats).votesFor.size).toBe(0);
    expect(indexesIn(defined(stats).votesAgainst.keys())).toEqual([0, 1, 2]);
    for (const vote of defined(stats).votesAgainst.values()) {
      expect(vote).toBeInstanceOf(ResourceLockedError);
      expect(vote.name).toBe("ResourceLockedError");
      expect(vote.message).toBe("The operation was applied to: 0 of the 2 requested resources.");
    }
  });

  test("refuses a fraction of a millisecond with v5's sentence", async () => {
    const calls = [redlock.acquire([fresh()], 1.5), redlock.using([fresh()], 1.5, () => undefined)];
    for (const call of calls) {
      const { message } = await rejection(call);
      expect(message).toMatch(/^Duration must be an integer value in milliseconds\./);
    }
  });

  test("passes on a client's own error as its vote", async () => {
    await withOwnServers(async (_, theirs) => {
      const [first] = theirs;
      defined(first).disconnect();
      await until(
        () => defined(first).status === "end",
        5000,
        () => "the client did not end",
      );
      const other = new Redlock(theirs, { nodeTimeout: NODE_TIMEOUT_MS });
      const lock = await other.acquire([fresh()], 5000);
      const stats = await defined(lock.attempts[0]);
      expect(stats.votesFor.size).toBe(2);
      expect(stats.votesAgainst.get(defined(first))?.message).toBe("Connection is closed.");
      await lock.release();
    });
  });

  test("does not wait for the statistics, which wait for the last vote", async () => {
    await withOwnServers(async (own, theirs) => {
      const other = new Redlock(theirs);
      const [frozen] = own;
      await defined(frozen).freeze();
      const start = performance.now();
      const settings = { nodeTimeout: 2000 };
      const lock = await other.acquire([fresh()], 20_000, settings);
      expect(performance.now() - start).toBeLessThan(2000);
      const stats = await defined(lock.attempts[0]);
      expect(performance.now() - start).toBeGreaterThanOrEqual(1990);
      expect(indexesIn(stats.votesAgainst.keys(), theirs)).toEqual([0]);
      await lock.release();
      defined(frozen).thaw();
    });
  });
});

describe("the error event", () => {
  /** The errors that were emitted, as soon as there are so many. */
  async function emitted(
    count: number,
    other: Redlock,
    action: () => Promise<unknown>,
  ): Promise<Error[]> {
    const errors: Error[] = [];
    const listener = (error: Error): void => {
      errors.push(error);
    };
    other.on("error", listener);
    await action().catch(() => undefined);
    await until(
      () => errors.length >= count,
      5000,
      () => `${errors.length} of ${count} events: ${errors.map(String).join(", ")}`,
    );
    other.off("error", listener);
    return errors;
  }

  test("fires for each vote of a held resource, which v5's filter tells from others", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const errors = await emitted(3, redlock, () =>
      redlock.acquire([resource], 5000, { retryCount: 0 }),
    );
    expect(errors).toHaveLength(3);
    expect(errors.filter((error) => !(error instanceof ResourceLockedError))).toEqual([]);
  });

  test("fires for each node that cannot vote, of acquire, extend and release", async () => {
    await withOwnServers(async (own, theirs) => {
      const other = new Redlock(theirs, { nodeTimeout: NODE_TIMEOUT_MS });
      await defined(own[2]).kill();
      await until(
        () => defined(theirs[2]).status !== "ready",
        5000,
        () => "the client did not notice",
      );
      let lock: Lock | undefined;
      const acquiring = async (): Promise<void> => {
        lock = await other.acquire([fresh()], 5000);
      };
      expect(await emitted(1, other, acquiring)).toHaveLength(1);
      expect(await emitted(1, other, () => defined(lock).extend(5000))).toHaveLength(1);
      expect(await emitted(1, other, () => defined(lock).release())).toHaveLength(1);
    });
  });

  test("fires for each node that holds the lock no longer when it is extended", async () => {
    const resource = fresh();
    const lock = await redlock.acquire([resource], 60_000);
    await Promise.all(lock.attempts);
    // A node that has not cached the script when the others have decided abstains, this once.
    for (const { port } of servers) await ask(port, ["SCRIPT", "LOAD", extendScript.text]);
    await remove(resource);
    const errors = await emitted(3, redlock, () => lock.extend(5000));
    expect(errors.every((error) => error instanceof ResourceLockedError)).toBe(true);
  });

  test("harms no process that has no listener", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const silent = new Redlock(clients);
    await rejection(silent.acquire([resource], 5000, { retryCount: 0 }));
    expect(silent.emit("error", new Error("nobody listens"))).toBe(true);
  });
});

describe("extend", () => {
  test("gives a lock to go on with, in v5's pattern of use", async () => {
    const resource = fresh();
    let lock = await redlock.acquire([resource], 5000);
    const { expiration, value } = lock;
    try {
      lock = await lock.extend(60_000);
      expect(lock.expiration).toBeGreaterThan(expiration + 50_000);
      expect(lock.value).toBe(value);
      lock = await redlock.extend(lock, 120_000, { retryCount: 0 });
      expect(lock.expiration).toBeGreaterThan(expiration + 110_000);
    } finally {
      await lock.release();
    }
    await untilFree(servers, resource);
  });

  test("renews in place: the lock that was extended is the one that it gives", async () => {
    const lock = await redlock.acquire([fresh()], 5000);
    const { expiration } = lock;
    expect(await lock.extend(60_000)).toBe(lock);
    expect(lock.expiration).toBeGreaterThan(expiration);
    await lock.release();
  });

  test("of an expired or a released lock is refused with v5's sentence, without an attempt", async () => {
    const released = await redlock.acquire([fresh()], 5000);
    await released.release();
    const expired = await redlock.acquire([fresh()], 500);
    await until(
      () => expired.expiration < Date.now(),
      5000,
      () => "the lock did not expire",
    );
    for (const lock of [released, expired]) {
      const error = await rejection(lock.extend(5000));
      expect(error).toBeInstanceOf(ExecutionError);
      expect(error.message).toMatch(/^Cannot extend an already-expired lock\./);
      expect(error.attempts).toEqual([]);
    }
  });

  test("of a lock that a majority has lost is refused with the votes", async () => {
    const resource = fresh();
    const lock = await redlock.acquire([resource], 5000);
    await Promise.all(lock.attempts);
    await remove(resource);
    const error = await rejection(lock.extend(5000));
    expect(error).toBeInstanceOf(ExecutionError);
    const { votesAgainst } = await defined(error.attempts[0]);
    expect(defined(votesAgainst.get(defined(clients[0]))).message).toBe(
      "The operation was applied to: 0 of the 1 requested resources.",
    );
    expect(lock.expiration).toBe(0);
  });
});

describe("release", () => {
  test("gives v5's result, and sets the expiration to 0", async () => {
    const before = Date.now();
    const lock = await redlock.acquire([fresh()], 5000);
    await Promise.all(lock.attempts);
    const result: ExecutionResult = await lock.release();
    const { attempts, start } = result;
    expect(attempts).toHaveLength(1);
    const stats = await defined(attempts[0]);
    expect(stats).toMatchObject({ membershipSize: 3, quorumSize: 2 });
    expect(indexesIn(stats.votesFor)).toEqual([0, 1, 2]);
    expect(stats.votesAgainst.size).toBe(0);
    expect(start).toBeGreaterThanOrEqual(before);
    expect(start).toBeLessThanOrEqual(Date.now());
    expect(lock.expiration).toBe(0);
  });

  test("sets the expiration to 0 before it has an answer", async () => {
    const lock = await redlock.acquire([fresh()], 5000);
    const releasing = lock.release();
    expect(lock.expiration).toBe(0);
    await releasing;
  });

  test("of an expired or a released lock does not throw", async () => {
    const expired = await redlock.acquire([fresh()], 500);
    await until(
      () => expired.expiration < Date.now(),
      5000,
      () => "the lock did not expire",
    );
    const released = await redlock.acquire([fresh()], 5000);
    await released.release();
    for (const lock of [expired, released]) {
      const { attempts, start } = await redlock.release(lock);
      expect(attempts).toEqual([]);
      expect(Math.abs(Date.now() - start)).toBeLessThan(60_000);
    }
  });
});

describe("using", () => {
  /** Resolves when the signal aborts, as a routine would notice it. */
  function aborted(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      signal.addEventListener("abort", () => {
        resolve();
      });
    });
  }

  test("takes resources, a ttl and a routine, and gives the routine's value", async () => {
    const [a, b] = [fresh(), fresh()];
    const value = await redlock.using([a, b], 5000, async (signal: RedlockAbortSignal) => {
      expect(signal.aborted).toBe(false);
      expect(signal.error).toBeUndefined();
      const [first] = await valuesOn(servers, a);
      expect(first).toMatch(/^[0-9a-f]{32} \S+\/\d+$/);
      return "value";
    });
    expect(value).toBe("value");
    await untilFree(servers, a);
    await untilFree(servers, b);
  });

  test("takes settings before the routine", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const routine = (): Promise<string> => Promise.resolve("ran");
    const error = await rejection(redlock.using([resource], 5000, { retryCount: 1 }, routine));
    expect(error.attempts).toHaveLength(2);
    await remove(resource);
    expect(await redlock.using([resource], 5000, { retryCount: 1 }, routine)).toBe("ran");
  });

  test("rejects with what the routine threw, and has released then", async () => {
    const resource = fresh();
    const failure = new Error("the routine's own");
    const failing = redlock.using([resource], 5000, async () => {
      await Promise.resolve();
      throw failure;
    });
    expect(await rejection(failing)).toBe(failure);
    await untilFree(servers, resource);
  });

  test("extends while the routine runs, when as much is left as the threshold says", async () => {
    const resource = fresh();
    const settings = { automaticExtensionThreshold: 4900 };
    await redlock.using([resource], 5000, settings, async (signal, lock) => {
      let { expiration } = lock;
      for (let extensions = 0; extensions < 2; extensions++) {
        await until(
          () => lock.expiration > expiration,
          4000,
          () => "the lock was not extended",
        );
        ({ expiration } = lock);
      }
      expect(signal.aborted).toBe(false);
    });
    await untilFree(servers, resource);
  });

  test("tells the routine of a loss by its signal, whose error it throws as v5's users do", async () => {
    const resource = fresh();
    const settings = { automaticExtensionThreshold: 1900 };
    let seen: RedlockAbortSignal | undefined;
    const error = await rejection(
      redlock.using([resource], 2000, settings, async (signal) => {
        seen = signal;
        await remove(resource);
        await aborted(signal);
        if (signal.aborted) throw signal.error ?? new Error("no error");
      }),
    );
    expect(seen?.error).toBe(error);
    expect(seen?.reason).toBe(error);
    expect(error).toBeInstanceOf(LockLostError);
    expect(error.code).toBe("ERR_REDLOCK_LOST");
  });
});

describe("a process with node-redlock 5", () => {
  let v5: V5Redlock;

  beforeAll(() => {
    v5 = new V5(clients, { retryCount: 0 });
  });

  test("is refused what is held here, one resource or several", async () => {
    const [a, b] = [fresh(), fresh()];
    const single = await redlock.acquire([a], 60_000);
    const several = await redlock.acquire([b, fresh()], 60_000);
    await expect(v5.acquire([a], 5000)).rejects.toThrow("quorum");
    await expect(v5.acquire([fresh(), b], 5000)).rejects.toThrow("quorum");
    await single.release();
    await several.release();
    await untilFree(servers, a);
    await (await v5.acquire([a], 5000)).release();
  });

  test("excludes this one from what it holds, until it releases", async () => {
    const [a, b] = [fresh(), fresh()];
    const theirs = await v5.acquire([a, b], 60_000);
    const settings = { retryCount: 0 };
    const error = await rejection(redlock.acquire([a], 5000, settings));
    expect(error.message).toContain("held by another lock");
    await rejection(redlock.acquire([fresh(), b], 5000, settings));
    expect(await redlock.tryAcquire([b], 5000)).toBeNull();

    const waiting = redlock.acquire([a, b], 60_000, {
      retryCount: -1,
      retryDelay: 10,
      retryJitter: 5,
    });
    await (await theirs.extend(60_000)).release();
    await (await waiting).release();
  });

  test("finds the bare value under the bare name", async () => {
    const resource = fresh();
    const lock = await redlock.acquire([resource], 5000);
    await Promise.all(lock.attempts);
    expect(await valuesOn(servers, resource)).toEqual([lock.value, lock.value, lock.value]);
    await lock.release();
  });
});
