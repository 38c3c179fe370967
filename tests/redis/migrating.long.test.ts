import { describe, expect, test } from "@jest/globals";
import type { Redis } from "ioredis";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { type RedisServer, startServers, stopAll, until } from "../support/servers.js";
import { type LockLostError, Redlock } from "../../src/index.js";
import { Turns, untilWaiting } from "../support/line.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  rejection,
  untilFree,
  valuesOn,
} from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

// What docs/migrating.md says of each library, shown with that library on real servers.

/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;

/** The parts of the peers that are used here. Not all of them have types under nodenext. */
interface V5Lock {
  expiration: number;
  extend(ttl: number): Promise<V5Lock>;
  release(): Promise<unknown>;
}
interface V5 {
  acquire(resources: string[], ttl: number, settings?: object): Promise<V5Lock>;
  using(
    resources: string[],
    ttl: number,
    routine: (signal: AbortSignal) => Promise<void>,
  ): Promise<void>;
  on(event: "error", listener: () => void): void;
}
interface V4Lock {
  resource: string[];
  extend(ttl: number): Promise<V4Lock>;
  unlock(): Promise<void>;
}
interface V4 {
  lock(resource: string | string[], ttl: number): Promise<V4Lock>;
  lockWithOptions(resource: string, ttl: number, options: object): Promise<V4Lock>;
}
interface Mutex {
  readonly identifier: string;
  acquire(): Promise<void>;
  tryAcquire(): Promise<boolean>;
  release(): Promise<void>;
  stopRefresh(): void;
}
interface UniversalHandle {
  readonly value: string;
}
interface UniversalLock {
  acquire(): Promise<UniversalHandle>;
  extend(handle: UniversalHandle, ttl: number): Promise<boolean>;
  release(handle: UniversalHandle): Promise<boolean>;
  using(routine: (signal: AbortSignal) => Promise<void>): Promise<void>;
}
interface UniversalManager {
  acquireBatch(keys: string[], options?: object): Promise<UniversalHandle[]>;
  releaseBatch(handles: UniversalHandle[]): Promise<unknown>;
}

const load = createRequire(import.meta.url);
const { default: Redlock5 } = load("redlock-5") as {
  default: new (clients: Iterable<object>, settings?: object) => V5;
};
const Redlock4 = load("redlock-4") as new (clients: readonly object[], settings?: object) => V4;
const { Mutex: SingleMutex, RedlockMutex } = load("redis-semaphore") as {
  Mutex: new (client: object, key: string) => Mutex;
  RedlockMutex: new (clients: readonly object[], key: string, options?: object) => Mutex;
};
const { createLock, createRedlock, IoredisAdapter, LockManager } = load("redlock-universal") as {
  createLock: (config: object) => UniversalLock;
  createRedlock: (config: object) => UniversalLock;
  IoredisAdapter: new (client: object, options?: object) => object;
  LockManager: new (config: object) => UniversalManager;
};

/** A peer: how it takes a lock of so many ms, trying once or again and again. */
interface Peer {
  readonly name: string;
  /** The peer's key of a resource. */
  readonly keyPrefix: string;
  readonly acquire: (
    clients: readonly object[],
    resource: string,
    ttl: number,
    isPersistent: boolean,
  ) => Promise<() => Promise<unknown>>;
}

function retriesOf(isPersistent: boolean) {
  return { retryCount: isPersistent ? -1 : 0, retryDelay: 5, retryJitter: 4 };
}

const peers: readonly Peer[] = [
  {
    name: "redlock 5",
    keyPrefix: "",
    acquire: async (clients, resource, ttl, isPersistent) => {
      const redlock = new Redlock5(clients, retriesOf(isPersistent));
      const lock = await redlock.acquire([resource], ttl);
      return () => lock.release();
    },
  },
  {
    name: "redlock 4",
    keyPrefix: "",
    acquire: async (clients, resource, ttl, isPersistent) => {
      const redlock = new Redlock4(clients, retriesOf(isPersistent));
      const lock = await redlock.lock(resource, ttl);
      return () => lock.unlock();
    },
  },
  {
    name: "redis-semaphore",
    keyPrefix: "mutex:",
    acquire: async (clients, resource, ttl, isPersistent) => {
      const mutex = newMutex(clients, resource, {
        lockTimeout: ttl,
        acquireTimeout: isPersistent ? 60_000 : 10_000,
        acquireAttemptsLimit: isPersistent ? Infinity : 1,
        retryInterval: 5,
      });
      await mutex.acquire();
      return () => mutex.release();
    },
  },
  {
    name: "redlock-universal",
    keyPrefix: "",
    acquire: async (clients, key, ttl, isPersistent) => {
      const adapters = clients.map((client) => new IoredisAdapter(client));
      const retryAttempts = isPersistent ? 10_000 : 0;
      const lock = createRedlock({ adapters, key, ttl, retryAttempts, retryDelay: 5 });
      const handle = await lock.acquire();
      return () => lock.release(handle);
    },
  },
];

const made: Redlock[] = [];
const mutexes: Mutex[] = [];
const { servers, clients } = useServersAndClients(3, {
  beforeStop: async () => {
    for (const mutex of mutexes) mutex.stopRefresh();
    await Promise.all(made.map((redlock) => redlock[Symbol.asyncDispose]()));
  },
});

/** Makes a mutex that refreshes no longer than this test file runs. By default it would throw then, in a timer. */
function newMutex(clients: readonly object[], key: string, options: object = {}): Mutex {
  const mutex = new RedlockMutex(clients, key, { onLockLost: () => undefined, ...options });
  mutexes.push(mutex);
  return mutex;
}

/** Ours, on connections of its own, as another process would have it. */
function ours(keyPrefix = "", settings = {}): Redlock {
  const urls = servers.map(({ url }) => url);
  const redlock = new Redlock(urls, { nodeTimeout: NODE_TIMEOUT_MS, keyPrefix, ...settings });
  made.push(redlock);
  return redlock;
}

describe.each(peers)("on the same keys, $name", ({ name, keyPrefix, acquire }) => {
  test("is refused what redlock-quorum holds", async () => {
    const resource = fresh();
    const lock = await ours(keyPrefix).acquire(resource, 60_000);
    await expect(acquire(clients, resource, 60_000, false)).rejects.toThrow();
    await lock.release();
    await untilFree(servers, keyPrefix + resource);
    await (
      await acquire(clients, resource, 60_000, false)
    )();
  });

  test("excludes redlock-quorum from what it holds", async () => {
    const resource = fresh();
    const redlock = ours(keyPrefix);
    const release = await acquire(clients, resource, 60_000, false);
    expect(await redlock.tryAcquire(resource, 60_000)).toBeNull();
    const { message } = await rejection(redlock.acquire(resource, 60_000, { retryCount: 0 }));
    expect(message).toContain("held by another lock");
    const waiting = redlock.acquire(resource, 60_000, { retryDelay: 20, retryJitter: 10 });
    await release();
    await (await waiting).release();
  });

  test("and redlock-quorum without its queue both have turns, one at a time", async () => {
    const resource = fresh();
    const turns = new Turns<string>();
    const theirTurns = async (): Promise<void> => {
      for (let turn = 0; turn < 5; turn++) {
        const release = await acquire(clients, resource, 60_000, true);
        await turns.take(name, { release }, () => sleep(1));
      }
    };
    const settings = { queue: false, retryCount: -1, retryDelay: 5, retryJitter: 4 };
    const ourTurns = async (redlock: Redlock): Promise<void> => {
      for (let turn = 0; turn < 5; turn++) {
        await redlock.using(resource, 60_000, () => turns.hold("redlock-quorum", () => sleep(1)));
      }
    };
    const others = [ours(keyPrefix, settings), ours(keyPrefix, settings)];
    await Promise.all([theirTurns(), theirTurns(), ...others.map(ourTurns)]);
    expect(turns.mostAtOnce).toBe(1);
  });

  test("is refused at a hand-over while a waiter of redlock-quorum stands in the queue", async () => {
    const resource = fresh();
    const key = keyPrefix + resource;
    const [first, second] = [ours(keyPrefix), ours(keyPrefix)];
    const lock = await first.acquire(resource, 60_000);
    await lock.attempts[0];
    const next = second.acquire(resource, 60_000, { retryCount: -1 });
    await untilWaiting(first, resource, 1);
    let refusals = 0;
    const handedOver = new AbortController();
    const polling = (async () => {
      while (!handedOver.signal.aborted) {
        await expect(acquire(clients, resource, 60_000, false)).rejects.toThrow();
        refusals += 1;
      }
    })();
    await until(
      () => refusals > 2,
      10_000,
      () => `${name} was refused ${refusals} times`,
    );
    await lock.release();
    const held = await next;
    handedOver.abort();
    await polling;
    await held.release();
    await untilFree(servers, key);
    await (
      await acquire(clients, resource, 60_000, false)
    )();
  });
});

test("an unknown setting is refused by redlock-quorum alone", () => {
  const unknown = { retryCuont: 0 };
  const adapters = clients.map((client) => new IoredisAdapter(client));
  expect(new Redlock5(clients, unknown)).toBeDefined();
  expect(new Redlock4(clients, unknown)).toBeDefined();
  expect(newMutex(clients, "name", unknown)).toBeDefined();
  expect(createRedlock({ adapters, key: "name", ...unknown })).toBeDefined();
  expect(() => ours("", unknown)).toThrow("Did you mean retryCount?");
});

test("locks on a single server exclude no quorum", async () => {
  const resource = fresh();
  const [client] = clients;
  const adapter = new IoredisAdapter(defined(client));
  const mutex = new SingleMutex(defined(client), resource);
  await mutex.acquire();
  await (await ours("mutex:").acquire(resource, 60_000)).release();
  await mutex.release();
  const single = createLock({ adapter, key: resource });
  const handle = await single.acquire();
  await (await ours().acquire(resource, 60_000)).release();
  await single.release(handle);
});

describe("redlock 5", () => {
  test("returns another lock from extend, and ends the first", async () => {
    const lock = await new Redlock5(clients).acquire([fresh()], 60_000);
    const extended = await lock.extend(60_000);
    expect(extended).not.toBe(lock);
    expect(lock.expiration).toBe(0);
    await extended.release();
  });

  test("rejects the release of a lock that has expired", async () => {
    const redlock = new Redlock5(clients, { retryCount: 0 });
    const resource = fresh();
    const lock = await redlock.acquire([resource], 50);
    await untilFree(servers, resource);
    await expect(lock.release()).rejects.toThrow("quorum");
  });

  test("accepts the same client twice", async () => {
    const client = defined(clients[0]);
    const redlock = new Redlock5([client, client]);
    await (await redlock.acquire([fresh()], 60_000)).release();
    expect(() => new Redlock([client, client])).toThrow("nodes[1] is the same client as nodes[0]");
  });
});

describe("redlock 4", () => {
  test("extends the lock in place, and names its resources `resource`", async () => {
    const resource = fresh();
    const lock = await new Redlock4(clients).lock(resource, 60_000);
    expect(lock.resource).toEqual([resource]);
    expect(await lock.extend(60_000)).toBe(lock);
    await lock.unlock();
  });

  test("rejects the release of a lock that has expired", async () => {
    const resource = fresh();
    const lock = await new Redlock4(clients).lock(resource, 50);
    await untilFree(servers, resource);
    await expect(lock.unlock()).rejects.toThrow("Unable to fully release");
  });

  test("takes the constructor's retryCount where a call gives 0", async () => {
    const resource = fresh();
    const redlock = new Redlock4(clients, { retryCount: 2, retryDelay: 1, retryJitter: 1 });
    const lock = await redlock.lock(resource, 60_000);
    const refused = redlock.lockWithOptions(resource, 60_000, { retryCount: 0 });
    await expect(refused).rejects.toMatchObject({ name: "LockError", attempts: 3 });
    await lock.unlock();
    const held = await ours().acquire(resource, 60_000);
    expect(
      (await rejection(ours().acquire(resource, 60_000, { retryCount: 0 }))).attempts,
    ).toHaveLength(1);
    await held.release();
  });

  test("locks several resources under the same names", async () => {
    const [a, b] = [fresh(), fresh()];
    const lock = await new Redlock4(clients).lock([a, b], 60_000);
    expect(await ours().tryAcquire([b, fresh()], 60_000)).toBeNull();
    await lock.unlock();
  });
});

describe("redis-semaphore", () => {
  test("puts mutex: before the name of its key", async () => {
    const resource = fresh();
    const mutex = newMutex(clients, resource);
    await mutex.acquire();
    expect(await valuesOn(servers, `mutex:${resource}`)).toEqual(
      servers.map(() => mutex.identifier),
    );
    const unprefixed = await ours().acquire(resource, 60_000);
    await unprefixed.release();
    await mutex.release();
  });

  test("waits in tryAcquire, which redlock-quorum does not", async () => {
    const resource = fresh();
    const lock = await ours("mutex:").acquire(resource, 60_000);
    await lock.attempts[0];
    const mutex = newMutex(clients, resource, { acquireTimeout: 300 });
    const start = performance.now();
    expect(await mutex.tryAcquire()).toBe(false);
    expect(performance.now() - start).toBeGreaterThanOrEqual(290);
    await lock.release();
  });

  test("refreshes a lock until it is released, which redlock-quorum does inside using", async () => {
    const resource = fresh();
    const mutex = newMutex(clients, resource, { lockTimeout: 500, refreshInterval: 100 });
    await mutex.acquire();
    const lock = await ours().acquire(resource, 500);
    await sleep(1000);
    expect(await valuesOn(servers, `mutex:${resource}`)).toEqual(
      servers.map(() => mutex.identifier),
    );
    expect(lock.valid).toBe(false);
    await mutex.release();
  });

  test("resolves the release of a lock that has expired", async () => {
    const resource = fresh();
    const options = { lockTimeout: 50, refreshInterval: 0 };
    const mutex = newMutex(clients, resource, options);
    await mutex.acquire();
    await untilFree(servers, `mutex:${resource}`);
    await mutex.release();
  });
});

describe("redlock-universal", () => {
  test("resolves with false where a lock cannot be extended or released", async () => {
    const key = fresh();
    const adapters = clients.map((client) => new IoredisAdapter(client));
    const lock = createRedlock({ adapters, key, ttl: 50 });
    const handle = await lock.acquire();
    await untilFree(servers, key);
    expect(await lock.extend(handle, 1000)).toBe(false);
    expect(await lock.release(handle)).toBe(false);
  });

  test("locks a batch on one server, which excludes no quorum", async () => {
    const [a, b] = [fresh(), fresh()];
    const nodes = clients.map((client) => new IoredisAdapter(client));
    const manager = new LockManager({ nodes });
    const handles = await manager.acquireBatch([a, b]);
    const held = await Promise.all([valuesOn(servers, a), valuesOn(servers, b)]);
    expect(held.map((values) => values.filter((value) => value !== null).length)).toEqual([1, 1]);
    const lock = await ours().acquire([a, b], 60_000);
    expect(lock.valid).toBe(true);
    await lock.release();
    await manager.releaseBatch(handles);
  });
});

describe("with nodes that hang", () => {
  /** Clients of three servers of their own, `hung` of which are frozen. */
  async function withHungServers(
    hung: number,
    use: (clients: Redis[], freeze: () => Promise<void>, own: RedisServer[]) => Promise<void>,
  ): Promise<void> {
    const own = await startServers(3);
    const theirs = await connectAll(own);
    const frozen = own.slice(0, hung);
    const freeze = async (): Promise<void> => {
      for (const server of frozen) await server.freeze();
    };
    try {
      await use(theirs, freeze, own);
    } finally {
      for (const server of frozen) server.thaw();
      disconnectAll(theirs);
      await stopAll(own);
    }
  }

  function settled(promise: Promise<unknown>): () => boolean {
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    return () => isSettled;
  }

  test("one of three: redlock 5 and redlock-quorum go on, the others wait for it", async () => {
    await withHungServers(1, async (theirs, freeze, own) => {
      await freeze();
      const waits = peers.map(({ acquire }) => settled(acquire(theirs, fresh(), 60_000, false)));
      const redlock = new Redlock(own.map(({ url }) => url));
      await (await redlock.acquire(fresh(), 60_000)).release();
      const adapters = theirs.map((client) => new IoredisAdapter(client, { timeout: 500 }));
      const start = performance.now();
      await createRedlock({ adapters, key: fresh(), retryAttempts: 0 }).acquire();
      expect(performance.now() - start).toBeGreaterThanOrEqual(490);
      await sleep(500);
      const [v5, ...others] = waits.map((isSettled) => isSettled());
      expect(v5).toBe(true);
      expect(others).toEqual([false, false, false]);
      await redlock[Symbol.asyncDispose]();
    });
  });

  test("two of three: redlock-quorum rejects in time, the others wait", async () => {
    await withHungServers(2, async (theirs, freeze, own) => {
      await freeze();
      const waits = peers.map(({ acquire }) => settled(acquire(theirs, fresh(), 60_000, false)));
      const redlock = new Redlock(own.map(({ url }) => url));
      const settings = { retryCount: 0, nodeTimeout: 200 };
      const { code } = await rejection(redlock.acquire(fresh(), 60_000, settings));
      expect(code).toBe("ERR_REDLOCK_QUORUM");
      expect(waits.map((isSettled) => isSettled())).toEqual(waits.map(() => false));
      await redlock[Symbol.asyncDispose]();
    });
  });

  test("under a lock of 2 s: only redlock-quorum tells the work in time", async () => {
    await withHungServers(2, async (theirs, freeze, own) => {
      const ttl = 2000;
      const told = new Map<string, number>();
      const tell = (name: string) => (): void => {
        told.set(name, performance.now() - start);
      };
      let isOver = false;
      const workOf = (name: string) => async (signal: AbortSignal) => {
        started += 1;
        signal.addEventListener("abort", tell(name));
        await until(
          () => isOver,
          60_000,
          () => "not over",
        );
      };
      let started = 0;
      const redlock = new Redlock(own.map(({ url }) => url));
      const adapters = theirs.map((client) => new IoredisAdapter(client));
      const mutex = newMutex(theirs, fresh(), {
        lockTimeout: ttl,
        onLockLost: tell("redis-semaphore"),
      });
      const [v5, universal] = [
        new Redlock5(theirs),
        createRedlock({ adapters, key: fresh(), ttl }),
      ];
      const start = performance.now();
      const runs = [
        v5.using([fresh()], ttl, workOf("redlock 5")),
        universal.using(workOf("redlock-universal")),
        redlock.using(fresh(), ttl, workOf("redlock-quorum")),
        mutex.acquire().then(() => {
          started += 1;
        }),
      ].map((run) => run.catch((error: unknown) => error));
      await until(
        () => started === 4,
        10_000,
        () => `${started} of 4 began`,
      );
      await freeze();
      await until(
        () => told.has("redlock-quorum"),
        10_000,
        () => "redlock-quorum did not tell",
      );
      // All four locks have expired on the server that runs before anybody else tells its work.
      await until(
        async () => (await defined(theirs[2]).dbsize()) === 0,
        10_000,
        () => "a lock did not expire",
      );
      for (const [name, afterMs] of told) {
        if (name !== "redlock-quorum") expect(afterMs).toBeGreaterThan(ttl);
      }
      isOver = true;
      for (const server of own) server.thaw();
      const outcomes = await Promise.all(runs);
      expect((outcomes[2] as LockLostError).code).toBe("ERR_REDLOCK_LOST");
      await mutex.release();
      await redlock[Symbol.asyncDispose]();
    });
  });
});
