// The libraries that the suite compares, in the shape that they share. Each has the settings and the
// clients that its own documentation shows; only how often it retries is given.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { Redis } from "ioredis";
import { until } from "../tests/support/servers.js";
import { bareIoredis, floorOf, loadScripts } from "./floor.js";
import { coalescingLoop } from "./bare-loop.js";
import type { HeldLock, Locker } from "./locker.js";
import { loadPackage } from "./package-under-test.js";

export const OURS = "redlock-quorum";
export const FLOOR = "ioredis alone";

/** Delays and jitters are each library's own defaults. */
export type Retries = "none" | "endless";

export interface Library {
  readonly name: string;
  readonly role: "ours" | "peer" | "floor";
  readonly version: string;
  /** Whether its API has a call that extends a lock. */
  readonly extends: boolean;
  /** Whether one lock can have several resources. */
  readonly locksSeveral: boolean;
  readonly open: (urls: readonly string[], retries: Retries) => Promise<Locker>;
}

const REACH_LIMIT_MS = 15_000;

/** All that are installed: the peers are dependencies of the suite alone. */
export function installedLibraries(packageUrl: string): Library[] {
  return [floor(FLOOR, false), ourLibrary(packageUrl), ...PEERS.flatMap(installed)];
}

/** What a program without any lock library could do for its throughput: an option of its client. */
export const PIPELINING_FLOOR = floor("ioredis alone, auto-pipelining", true);

/** What coalescing costs without a lock library: the same, but for what a library adds and saves. */
export const BARE_LOOP: Library = {
  name: "a bare coalescing loop",
  role: "floor",
  version: versionOf("ioredis"),
  extends: false,
  locksSeveral: false,
  open: async (urls) => {
    const { clients, reachAll, close } = connect(urls);
    return { acquire: await coalescingLoop(clients), reachAll, close };
  },
};

export function libraryNamed(libraries: readonly Library[], name: string): Library {
  const found = libraries.find((library) => library.name === name);
  if (found === undefined) throw new Error(`There is no library ${name}.`);
  return found;
}

export function namesOfPeers(libraries: readonly Library[]): string[] {
  return libraries.flatMap(({ name, role }) => (role === "peer" ? [name] : []));
}

export function missingPeers(libraries: readonly Library[]): string[] {
  const there = new Set(namesOfPeers(libraries));
  return PEERS.flatMap(({ name }) => (there.has(name) ? [] : [name]));
}

function ourLibrary(packageUrl: string): Library {
  return {
    name: OURS,
    role: "ours",
    version: "as built",
    extends: true,
    locksSeveral: true,
    open: async (urls, retries) => {
      const { Redlock } = await loadPackage(packageUrl);
      const redlock = new Redlock(urls, { retryCount: retries === "none" ? 0 : -1 });
      const everyNodeVotes = async (): Promise<boolean> => {
        const lock = await redlock.acquire("every node votes?", 10_000, { retryCount: -1 });
        const stats = await lock.attempts.at(-1);
        await lock.release();
        return stats?.votesFor.size === urls.length;
      };
      const reachAll = (): Promise<void> =>
        until(everyNodeVotes, REACH_LIMIT_MS, () => "a node that runs does not vote");
      await reachAll();
      return {
        acquire: (resources, ttlMs) => redlock.acquire(resources, ttlMs),
        reachAll,
        close: () => void redlock.quit(),
      };
    },
  };
}

function floor(name: string, enableAutoPipelining: boolean): Library {
  return {
    name,
    role: "floor",
    version: versionOf("ioredis"),
    extends: true,
    locksSeveral: false,
    open: async (urls) => {
      const { clients, close } = connect(urls, enableAutoPipelining);
      const reachAll = (): Promise<void> => loadScripts(clients);
      await reachAll();
      return { acquire: floorOf(clients.map(bareIoredis)), reachAll, close };
    },
  };
}

type Acquire = Locker["acquire"];

interface Peer {
  readonly name: string;
  readonly packageName: string;
  readonly extends: boolean;
  readonly locksSeveral: boolean;
  readonly make: (module: unknown, clients: readonly Redis[], retries: Retries) => Acquire;
}

const require = createRequire(import.meta.url);

function installed(peer: Peer): Library[] {
  const { name, packageName, extends: extendable, locksSeveral } = peer;
  const version = versionIn(join(import.meta.dirname, "node_modules", packageName));
  if (version === "") return [];
  const open = async (urls: readonly string[], retries: Retries): Promise<Locker> => {
    const connected = connect(urls);
    await connected.reachAll();
    return { ...connected, acquire: peer.make(require(packageName), connected.clients, retries) };
  };
  return [{ name, role: "peer", version, extends: extendable, locksSeveral, open }];
}

/** Of a dependency of the project itself. */
export function versionOf(packageName: string): string {
  return versionIn(join(import.meta.dirname, "..", "node_modules", packageName));
}

/** Empty where nothing is installed there. */
function versionIn(directory: string): string {
  try {
    const text = readFileSync(join(directory, "package.json"), "utf8");
    return (JSON.parse(text) as { readonly version: string }).version.replace(/^v/, "");
  } catch {
    return "";
  }
}

function connect(
  urls: readonly string[],
  enableAutoPipelining = false,
): { clients: readonly Redis[]; reachAll: () => Promise<void>; close: () => void } {
  const clients = urls.map((url) => new Redis(url, { enableAutoPipelining }));
  // Nodes are killed, and ioredis would print each refused connection.
  for (const client of clients) client.on("error", () => undefined);
  return {
    clients,
    reachAll: async () => {
      await Promise.all(clients.map((client) => client.ping()));
    },
    close: () => {
      for (const client of clients) client.disconnect();
    },
  };
}

/** node-redlock 5, and what was made from it. */
interface NodeRedlock5 {
  acquire: Acquire;
  on(event: "error", listener: () => void): void;
}
type MakeNodeRedlock5 = new (
  clients: readonly Redis[],
  settings: { readonly retryCount: number },
) => NodeRedlock5;

function nodeRedlock5(
  Redlock: MakeNodeRedlock5,
  clients: readonly Redis[],
  retries: Retries,
): Acquire {
  const redlock = new Redlock(clients, { retryCount: retries === "none" ? 0 : -1 });
  redlock.on("error", () => undefined);
  return (resources, ttlMs) => redlock.acquire(resources, ttlMs);
}

interface Lock4 {
  extend(ttlMs: number): Promise<Lock4>;
  unlock(): Promise<void>;
}
type MakeNodeRedlock4 = new (
  clients: readonly Redis[],
  settings: { readonly retryCount: number },
) => { lock(resources: string[], ttlMs: number): Promise<Lock4> };

function heldLock4(lock: Lock4): HeldLock {
  return {
    extend: async (ttlMs) => heldLock4(await lock.extend(ttlMs)),
    release: () => lock.unlock(),
  };
}

interface RedisSemaphore {
  readonly RedlockMutex: new (
    clients: readonly Redis[],
    key: string,
    options: {
      readonly lockTimeout: number;
      readonly acquireTimeout?: number;
      readonly acquireAttemptsLimit?: number;
    },
  ) => { acquire(): Promise<void>; release(): Promise<void> };
}

interface RedlockUniversal {
  readonly IoredisAdapter: new (client: Redis) => object;
  readonly createRedlock: (config: {
    readonly adapters: readonly object[];
    readonly key: string;
    readonly ttl: number;
    readonly retryAttempts: number;
  }) => UniversalLock;
}
interface UniversalLock {
  acquire(): Promise<object>;
  extend(handle: object, ttlMs: number): Promise<boolean>;
  release(handle: object): Promise<boolean>;
}

const PEERS: readonly Peer[] = [
  {
    name: "redlock 5 beta",
    packageName: "redlock",
    extends: true,
    locksSeveral: true,
    make: (module, clients, retries) =>
      nodeRedlock5((module as { readonly default: MakeNodeRedlock5 }).default, clients, retries),
  },
  {
    name: "redlock 4",
    packageName: "redlock-4",
    extends: true,
    locksSeveral: true,
    make: (module, clients, retries) => {
      const redlock = new (module as MakeNodeRedlock4)(clients, {
        retryCount: retries === "none" ? 0 : -1,
      });
      return async (resources, ttlMs) => heldLock4(await redlock.lock(resources, ttlMs));
    },
  },
  {
    name: "@sesamecare-oss/redlock",
    packageName: "@sesamecare-oss/redlock",
    extends: true,
    locksSeveral: true,
    make: (module, clients, retries) =>
      nodeRedlock5((module as { readonly Redlock: MakeNodeRedlock5 }).Redlock, clients, retries),
  },
  {
    name: "redis-semaphore",
    packageName: "redis-semaphore",
    // It refreshes by a timer of its own.
    extends: false,
    locksSeveral: false,
    make: (module, clients, retries) => {
      const { RedlockMutex } = module as RedisSemaphore;
      const limit =
        retries === "none"
          ? { acquireAttemptsLimit: 1 }
          : { acquireTimeout: Number.POSITIVE_INFINITY };
      return async ([key = ""], ttlMs) => {
        const mutex = new RedlockMutex(clients, key, { lockTimeout: ttlMs, ...limit });
        await mutex.acquire();
        return {
          extend: () => Promise.reject(new Error("redis-semaphore extends by itself")),
          release: () => mutex.release(),
        };
      };
    },
  },
  {
    name: "redlock-universal",
    packageName: "redlock-universal",
    extends: true,
    locksSeveral: false,
    make: (module, clients, retries) => {
      const { IoredisAdapter, createRedlock } = module as RedlockUniversal;
      const adapters = clients.map((client) => new IoredisAdapter(client));
      const retryAttempts = retries === "none" ? 0 : Number.MAX_SAFE_INTEGER;
      return async ([key = ""], ttlMs) => {
        const lock = createRedlock({ adapters, key, ttl: ttlMs, retryAttempts });
        const handle = await lock.acquire();
        const held: HeldLock = {
          extend: async (newTtlMs) => {
            if (!(await lock.extend(handle, newTtlMs))) throw new Error("Not extended");
            return held;
          },
          release: () => lock.release(handle),
        };
        return held;
      };
    },
  },
];
