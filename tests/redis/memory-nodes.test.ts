// Does the same to nodes in memory as to real servers: what a user's test learns from one must hold for the other.

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { type NodeEntry, Redlock, type RedlockSettings } from "../../src/index.js";
import { memoryNodes } from "../../src/testing/index.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  rejection,
  type RecordingClient,
} from "../support/nodes.js";
import { ask, type RedisServer, startServers, stopAll, until } from "../support/servers.js";

const TTL_MS = 60_000;
const NODE_TIMEOUT_MS = 500;

interface Server {
  freeze(): void | Promise<void>;
  thaw(): void | Promise<void>;
  kill(): void | Promise<void>;
  /** After `kill`, with what it had stored. */
  restart(): void | Promise<void>;
  forget(resource: string): unknown;
}

/** Three independent servers, and how to reach them. */
interface Setup {
  readonly servers: readonly Server[];
  clients(): Promise<readonly NodeEntry[]>;
  end(): Promise<void>;
}

const setups: Readonly<Record<string, () => Promise<Setup>>> = {
  memory: () => {
    const nodes = memoryNodes(3);
    return Promise.resolve({
      servers: nodes,
      clients: async () => {
        const clients = nodes.map((node) => node.duplicate());
        await Promise.all(clients.map((client) => client.connect()));
        return clients;
      },
      end: () => Promise.resolve(),
    });
  },
  "real servers": async () => {
    const servers = await startServers(3, {
      args: ["--appendonly", "yes", "--appendfsync", "always"],
    });
    const opened: RecordingClient[] = [];
    return {
      servers: servers.map((server: RedisServer) => ({
        freeze: () => server.freeze(),
        thaw: () => {
          server.thaw();
        },
        kill: () => server.kill(),
        restart: () => server.restart(),
        forget: (resource: string) => ask(server.port, ["DEL", resource]),
      })),
      clients: async () => {
        const clients = await connectAll(servers);
        opened.push(...clients);
        return clients;
      },
      end: async () => {
        disconnectAll(opened);
        await stopAll(servers);
      },
    };
  },
};

describe.each(Object.keys(setups))("a Redlock on %s", (where) => {
  let setup: Setup;
  let opened: Redlock[] = [];

  beforeEach(async () => {
    setup = await defined(setups[where])();
  });

  afterEach(async () => {
    for (const server of setup.servers) await server.thaw();
    await Promise.all(opened.map((redlock) => redlock.quit()));
    opened = [];
    await setup.end();
  });

  async function client(settings: RedlockSettings = {}): Promise<Redlock> {
    const redlock = new Redlock(await setup.clients(), {
      nodeTimeout: NODE_TIMEOUT_MS,
      retryCount: 0,
      ...settings,
    });
    opened.push(redlock);
    return redlock;
  }

  async function heldBy(
    redlock: Redlock,
    resource: string,
  ): Promise<(string | null | undefined)[]> {
    const nodes = await redlock.inspect(resource);
    return nodes.map(({ ok, resources }) => (ok ? resources[0]?.value : undefined));
  }

  test("works with a frozen minority, which executes what was sent to it when it goes on", async () => {
    const [frozen] = setup.servers;
    const resource = fresh();
    const redlock = await client();
    await redlock.acquire(fresh(), TTL_MS);
    await frozen?.freeze();
    const lock = await redlock.acquire(resource, TTL_MS);
    expect((await heldBy(redlock, resource)).filter((value) => value === lock.value)).toHaveLength(
      2,
    );
    await frozen?.thaw();
    await until(
      async () => (await heldBy(redlock, resource)).every((value) => value === lock.value),
      5000,
      () => "the frozen node does not have the key",
    );
  });

  test("leaves no key on a node that was frozen during a whole lock", async () => {
    const [frozen] = setup.servers;
    const resource = fresh();
    const redlock = await client();
    await redlock.acquire(fresh(), TTL_MS);
    await frozen?.freeze();
    await (await redlock.acquire(resource, TTL_MS)).release();
    await frozen?.thaw();
    await until(
      async () => (await heldBy(redlock, resource)).every((value) => value === null),
      5000,
      () => "a key is left",
    );
  });

  test("needs a majority, and says what each node did", async () => {
    const [, killed, frozen] = setup.servers;
    const redlock = await client();
    await redlock.acquire(fresh(), TTL_MS);
    await killed?.kill();
    await frozen?.freeze();
    await until(
      async () => (await redlock.health())[1]?.error?.message.includes("ECONNREFUSED") === true,
      5000,
      () => "the killed node does not refuse connections",
    );
    const error = await rejection(redlock.acquire(fresh(), TTL_MS));
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(error.message).toMatch(
      /had 1 of 3 votes, 2 needed: \S+ ECONNREFUSED, \S+ no answer (in|for) [\d.]+ m?s\.$/,
    );
  });

  test("holds back a node that restarted, although it kept its data", async () => {
    const [first] = setup.servers;
    const resource = fresh();
    const redlock = await client();
    const lock = await redlock.acquire(resource, TTL_MS);
    // Only a node that was met before can be seen to have restarted: the three are as young as one another.
    await until(
      async () => (await heldBy(redlock, resource)).every((value) => value === lock.value),
      5000,
      () => "not every node has the key",
    );
    await first?.kill();
    await first?.restart();
    await until(
      async () => (await redlock.inspect(resource))[0]?.heldBackUntil !== undefined,
      10_000,
      () => "the node is not held back",
    );
    expect(await heldBy(redlock, resource)).toEqual(Array(3).fill(lock.value));
    const other = await redlock.acquire(fresh(), TTL_MS);
    expect((await other.attempts[0])?.votesFor.size).toBe(2);
    await lock.extend(TTL_MS);
    expect(lock.valid).toBe(true);
  });

  test("loses a lock that a majority has forgotten", async () => {
    const resource = fresh();
    const redlock = await client();
    const lock = await redlock.acquire(resource, TTL_MS);
    for (const server of setup.servers.slice(1)) await server.forget(resource);
    expect((await rejection(lock.extend(TTL_MS))).code).toBe("ERR_REDLOCK_QUORUM");
    expect((await (await client()).tryAcquire(fresh(), TTL_MS))?.valid).toBe(true);
  });

  test("hands a lock over to a waiter of another client", async () => {
    const resource = fresh();
    const redlock = await client();
    const lock = await redlock.acquire(resource, TTL_MS);
    const next = (await client()).acquire(resource, TTL_MS, { retryCount: 1, retryDelay: TTL_MS });
    await until(
      async () => {
        const nodes = await redlock.inspect(resource);
        return nodes.every(({ resources }) => resources[0]?.waiters.length === 1);
      },
      5000,
      () => "nobody waits",
    );
    await lock.release();
    expect((await next).valid).toBe(true);
  });
});
