import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect as connectTo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import * as version4 from "redis-4";
import * as version5 from "redis-5";
import * as version6 from "redis";
import { Redlock } from "../../src/index.js";
import { certificateIn } from "../support/certificate.js";
import { cacheQueueScripts, untilWaiting } from "../support/line.js";
import { defined, fresh, rejection, untilFree, untilHeld, valuesOn } from "../support/nodes.js";
import { rulesThatExist } from "../support/rights.js";
import {
  ask,
  freePorts,
  type RedisCluster,
  startRedisCluster,
  startServer,
  until,
} from "../support/servers.js";
import { type SentinelGroup, startSentinels } from "../support/sentinels.js";
import { useServers } from "../support/use-servers.js";

/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;
const SETTINGS = { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 };

// The three versions have one form here, so that each test is written once; client-types.test.ts checks their own types.
// It has only what the tests use: the compiler takes longer over the versions' own types than over all other tests.
interface Client {
  readonly isOpen: boolean;
  readonly isReady: boolean;
  connect(): Promise<unknown>;
  /** Version 4 has only what the later ones call deprecated. */
  destroy?(): void;
  disconnect(): unknown;
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  get(key: string): Promise<string | null>;
  /** As a group under Sentinel has it: whether a replica may answer, and the command. */
  sendCommand(isReadOnly: boolean, command: readonly string[]): Promise<unknown>;
  withTypeMapping(mapping: object): Client;
  withCommandOptions(options: object): Client;
}

interface Library {
  createClient(options: object): Client;
  createCluster(options: object): Client;
  createSentinel(options: object): Client;
}

const versions = [
  { version: 4, library: version4 as unknown as Library },
  { version: 5, library: version5 as unknown as Library },
  { version: 6, library: version6 as unknown as Library },
];

function end(client: Client): void {
  if (client.destroy === undefined) void client.disconnect();
  else client.destroy();
}

const servers = useServers(3);

beforeAll(() => cacheQueueScripts(servers));

describe.each(versions)("clients of node-redis $version", ({ version, library }) => {
  const made: Client[] = [];

  afterAll(() => {
    for (const client of made) if (client.isOpen) end(client);
  });

  function clientsOf(options: object = {}, to: readonly { port: number }[] = servers): Client[] {
    const clients = to.map(({ port }) => {
      const client = library.createClient({ socket: { host: "127.0.0.1", port }, ...options });
      client.on("error", () => undefined);
      return client;
    });
    made.push(...clients);
    return clients;
  }

  async function connected(...args: Parameters<typeof clientsOf>): Promise<Client[]> {
    const clients = clientsOf(...args);
    await Promise.all(clients.map((client) => client.connect()));
    return clients;
  }

  test("lock, extend, fence, queue, report, and hand a lock on", async () => {
    const clients = await connected();
    const redlock = new Redlock(clients, SETTINGS);
    expect([...redlock.clients]).toEqual(clients);
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000, { fencing: true });
    await untilHeld(servers, lock);
    expect(lock.fence).toBeGreaterThan(0);
    await lock.extend(120_000);
    expect(lock.remaining).toBeGreaterThan(100_000);

    const other = new Redlock(await connected(), { ...SETTINGS, retryCount: -1 });
    const waiting = other.acquire(resource, 60_000, { retryDelay: 50_000, retryJitter: 0 });
    await untilWaiting(redlock, resource, 1);
    expect((await redlock.inspect(resource)).every(({ ok }) => ok)).toBe(true);
    await redlock.release(lock);
    const next = await waiting;
    // Else it could be released on other connections before its acquire has come to the last node.
    await untilHeld(servers, next);
    const adopted = redlock.adopt(next.toJSON());
    await adopted.extend(60_000);
    await adopted.release();
    await untilFree(servers, resource);
    for (const node of await redlock.health()) {
      expect(node).toMatchObject({ reachable: true, role: "master", persistence: "none" });
      expect(node.findings).toEqual([]);
    }
  });

  test("send the operations of one turn as one command", async () => {
    const redlock = new Redlock(await connected(), SETTINGS);
    const names = Array.from({ length: 40 }, () => fresh());
    await Promise.all(names.map((name) => redlock.using(name, 60_000, () => undefined)));
    const commands = (): Promise<number[]> =>
      Promise.all(
        servers.map(async ({ port }) => {
          const info = await ask(port, ["INFO", "commandstats"]);
          return Number(/cmdstat_evalsha:calls=(\d+)/.exec(info)?.[1] ?? 0);
        }),
      );
    const before = await commands();
    const locks = await Promise.all(names.map((name) => redlock.acquire(name, 60_000)));
    await Promise.all(locks.flatMap(({ attempts }) => attempts));
    const after = await commands();
    expect(after.map((count, index) => count - defined(before[index]))).toEqual([1, 1, 1]);
    await Promise.all(locks.map((lock) => lock.release()));
  });

  test("are connected by the first call, where nobody has", async () => {
    const clients = clientsOf();
    const redlock = new Redlock(clients, SETTINGS);
    const lock = await redlock.acquire(fresh(), 60_000);
    await untilHeld(servers, lock);
    await lock.release();
    await redlock.quit();
    expect(clients.map(({ isOpen }) => isOpen)).toEqual([false, false, false]);
  });

  test("leave no connection open that was still opening when they ended", async () => {
    const server = await startServer();
    try {
      const early = new Redlock(clientsOf({}, [server]), SETTINGS);
      const refusal = rejection(early.acquire(fresh(), 60_000));
      await turn();
      await early.quit();
      await refusal;

      const clients = await connected({}, [server]);
      const resource = fresh();
      const lock = await new Redlock(clients, SETTINGS).acquire(resource, 60_000);
      // Some of these waiters leave while the connection for their subscription opens.
      for (let turns = 0; turns < 10; turns += 1) {
        const redlock = new Redlock(clients, { ...SETTINGS, retryCount: -1 });
        const waiting = rejection(redlock.acquire(resource, 60_000));
        for (let turned = 0; turned < turns; turned += 1) await turn();
        await redlock[Symbol.asyncDispose]();
        await waiting;
      }
      await lock.release();
      const count = async (): Promise<number> =>
        [...(await ask(server.port, ["CLIENT", "LIST"])).matchAll(/\bid=/g)].length;
      // That of the clients, and that which asks.
      await until(
        async () => (await count()) === 2,
        5000,
        () => "more connections are open",
      );
    } finally {
      await server.stop();
    }
  });

  const typeMapping = { 36: Buffer, 43: Buffer, 58: String } as const;
  const mappings: { which: string; options: object; of: (client: Client) => Client }[] = [
    { which: "for all", options: { typeMapping }, of: (client) => client },
    {
      which: "for some",
      options: {},
      of: (client) => client.withTypeMapping(typeMapping),
    },
    {
      which: "for all but some",
      options: { typeMapping },
      of: (client) => client.withCommandOptions({}),
    },
  ];
  // Version 4 has none of these options, and no methods for them.
  test.each(mappings.slice(0, version === 4 ? 1 : undefined))(
    "may change the types of replies, $which",
    async ({ options, of }) => {
      const clients = await connected({ commandOptions: options });
      const redlock = new Redlock(clients.map(of), SETTINGS);
      await redlock.using(fresh(), 60_000, { fencing: true }, (_, lock) => lock.extend(60_000));
      for (const { role, persistence } of await redlock.health()) {
        expect([role, persistence]).toEqual(["master", "none"]);
      }
    },
  );

  test("reach the database that they select", async () => {
    const clients = await connected({ database: 3 });
    const redlock = new Redlock(clients, SETTINGS);
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await untilFree(servers, resource);
    for (const client of clients) expect(await client.get(resource)).toBe(lock.value);
    const elsewhere = new Redlock(await connected(), SETTINGS);
    expect((await rejection(elsewhere.extend(lock, 60_000))).message).toContain("other nodes");
    await lock.release();
  });

  test("reach a server by TLS with a private CA and a client's certificate, and by a Unix socket", async () => {
    const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-node-redis-"));
    const { key, certificate } = await certificateIn(directory);
    const [port = 0] = await freePorts(1);
    const path = join(directory, "redis.sock");
    // prettier-ignore
    const args = [
      "--tls-port", String(port), "--tls-cert-file", certificate, "--tls-key-file", key,
      "--tls-ca-cert-file", certificate, "--tls-auth-clients", "yes", "--unixsocket", path,
    ];
    const server = await startServer({ args });
    try {
      const [keyText, text] = await Promise.all([
        readFile(key, "utf8"),
        readFile(certificate, "utf8"),
      ]);
      const tls = {
        host: "127.0.0.1",
        port,
        tls: true,
        ca: text,
        key: keyText,
        cert: text,
      };
      for (const socket of [tls, { path }]) {
        const client = library.createClient({ socket });
        client.on("error", () => undefined);
        const redlock = new Redlock([client], SETTINGS);
        await redlock.using(fresh(), 60_000, { fencing: true }, (_, lock) => lock.extend(60_000));
        const waiters = [redlock, redlock].map((one) =>
          one.using("shared", 60_000, { retryCount: -1 }, () => undefined),
        );
        await Promise.all(waiters);
        expect((await redlock.health())[0]?.node).toBe(
          "path" in socket ? path : `127.0.0.1:${port}`,
        );
        await redlock.quit();
      }
      // Without the client's certificate, the server ends the connection: a clear failure, soon.
      const stranger = library.createClient({
        socket: { host: "127.0.0.1", port, tls: true, ca: text },
      });
      stranger.on("error", () => undefined);
      const refused = new Redlock([stranger], { ...SETTINGS, nodeTimeout: 1000 });
      const error = await rejection(refused.acquire(fresh(), 60_000));
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      await refused.quit();
    } finally {
      await server.stop();
      await rm(directory, { recursive: true });
    }
  });

  test("can be mixed with others and with URLs", async () => {
    const [client] = await connected();
    const entries = [defined(client), ...servers.slice(1).map(({ url }) => url)];
    const redlock = new Redlock(entries, SETTINGS);
    await redlock.using(fresh(), 60_000, (_, lock) => untilHeld(servers, lock));
    await redlock.quit();
  });

  test("vote against where a server is gone, and for when it is back", async () => {
    const own = await startServer();
    const clients = await connected({}, [...servers.slice(0, 2), own]);
    const redlock = new Redlock(clients, { ...SETTINGS, restartGuard: false });
    await (await redlock.acquire(fresh(), 60_000)).release();
    const { port } = own;
    await own.stop();
    await until(
      () => !defined(clients[2]).isReady,
      5000,
      () => "the client has not seen it",
    );
    const lock = await redlock.acquire(fresh(), 60_000);
    const stats = await defined(lock.attempts[0]);
    const vote = defined(stats.votesAgainst.get(defined(clients[2])));
    expect(vote).toMatchObject({ name: "NodeError", code: "ERR_REDLOCK_NODE_DOWN" });
    const again = await startServer({ port });
    try {
      await untilHeld([again], lock);
    } finally {
      await lock.release();
      await redlock.quit();
      await again.stop();
    }
  });

  test("report a loss in time where a majority is frozen", async () => {
    const redlock = new Redlock(await connected(), SETTINGS);
    const frozen = servers.slice(0, 2);
    const error = await rejection(
      redlock.using(fresh(), 3000, async (signal, lock) => {
        const { expiration } = lock;
        for (const server of frozen) await server.freeze();
        await once(signal, "abort");
        expect(signal.reason).toMatchObject({ code: "ERR_REDLOCK_LOST" });
        expect(expiration).toBeGreaterThan(0);
        expect(lock.valid).toBe(false);
      }),
    ).finally(() => {
      for (const server of frozen) server.thaw();
    });
    expect(error.code).toBe("ERR_REDLOCK_LOST");
  });

  test("tell an error of the server from a lost connection", async () => {
    for (const { port } of servers) {
      const rules = rulesThatExist(["~*", "&*", "+@all", "-evalsha", "-eval"]);
      await ask(port, ["ACL", "SETUSER", "mute", "on", ">password", ...rules]);
    }
    const user = { username: "mute", password: "password" };
    const redlock = new Redlock(await connected(user), SETTINGS);
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const error = await rejection(lock.extend(60_000));
    const votes = (await defined(error.attempts[0])).votesAgainst;
    for (const vote of votes.values()) {
      expect(vote.name).toBe("ReplyError");
      expect(vote.message).toMatch(/^NOPERM/);
    }
    expect(votes.size).toBeGreaterThanOrEqual(2);
    for (const { port } of servers) await ask(port, ["DEL", resource]);
  });

  test("that were closed by their owner are down, and stay closed", async () => {
    const clients = await connected();
    const redlock = new Redlock(clients, SETTINGS);
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    for (const client of clients) end(client);
    const error = await rejection(lock.release());
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    expect(clients.map(({ isOpen }) => isOpen)).toEqual([false, false, false]);
    expect(await valuesOn(servers, resource)).toEqual(Array(3).fill(lock.value));
    await redlock.quit();
  });

  test("on which the promises of a lock would not hold are refused", () => {
    const client = clientsOf()[0] as unknown as {
      createPool?: () => object;
      options: { keyPrefix?: string; legacyMode?: boolean };
    };
    const refusal = (entry: unknown): string => {
      try {
        new Redlock([entry as Client]);
        return "none";
      } catch (error) {
        expect(error).toMatchObject({ name: "TypeError", code: "ERR_REDLOCK_INVALID_ARGUMENT" });
        return String(error);
      }
    };
    if (version > 4) {
      expect(refusal(defined(client.createPool).call(client))).toMatch(
        /nodes\[0\] is a pool of node-redis: .* Pass a client of createClient\(\)/,
      );
    } else {
      const legacy = library.createClient({ legacyMode: true });
      expect(refusal(legacy)).toContain("nodes[0] is a client of node-redis in legacy mode");
    }
    expect(refusal(library.createClient({ keyPrefix: "app:" }))).toMatch(
      /nodes\[0\] is a client of node-redis with a keyPrefix.* set `keyPrefix` in the settings/,
    );
  });
});

describe.each(versions)("a Redis Cluster by node-redis $version", ({ library }) => {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startRedisCluster();
  });

  afterAll(async () => {
    await cluster.stop();
  });

  function connect(): Client {
    const rootNodes = cluster.servers.map(({ port }) => ({ socket: { host: "127.0.0.1", port } }));
    const client = library.createCluster({ rootNodes });
    client.on("error", () => undefined);
    return client;
  }

  test("is one node, which locks on each of its masters, in batches too", async () => {
    const client = connect();
    await client.connect();
    const redlock = new Redlock([client], SETTINGS);
    const names = Array.from({ length: 30 }, () => fresh());
    const locks = await Promise.all(names.map((name) => redlock.acquire(name, 60_000)));
    for (const [index, lock] of locks.entries()) {
      expect(await client.get(defined(names[index]))).toBe(lock.value);
    }
    await Promise.all(locks.map((lock) => lock.extend(60_000)));
    await Promise.all(locks.map((lock) => lock.release()));
    for (const name of names) expect(await client.get(name)).toBeNull();
    const fenced = await redlock.acquire(fresh(), 60_000, { fencing: true });
    expect(fenced.fence).toBeGreaterThan(0);
    await fenced.release();
    expect((await redlock.health())[0]).toMatchObject({ reachable: true, role: "master" });
    await redlock.quit();
    expect(client.isOpen).toBe(false);
  });

  test("is connected by the first call, and its waiters poll", async () => {
    const client = connect();
    const redlock = new Redlock([client], { nodeTimeout: NODE_TIMEOUT_MS, retryCount: -1 });
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const waiting = redlock.acquire(resource, 60_000);
    await untilWaiting(redlock, resource, 1);
    await lock.release();
    await (await waiting).release();
    await redlock.quit();
  });

  test("is not the node of a lock on another Cluster", async () => {
    const [one, other] = [connect(), connect()].map((client) => new Redlock([client], SETTINGS));
    const lock = await defined(one).acquire(fresh(), 60_000);
    expect((await rejection(defined(other).release(lock))).message).toContain("other nodes");
    await lock.release();
    for (const redlock of [one, other]) await defined(redlock).quit();
  });

  test("that nobody could reach at first is connected by a later call", async () => {
    const [port = 0] = await freePorts(1);
    const client = library.createCluster({ rootNodes: [{ socket: { host: "127.0.0.1", port } }] });
    client.on("error", () => undefined);
    const redlock = new Redlock([client], SETTINGS);
    expect((await rejection(redlock.acquire(fresh(), 60_000))).code).toBe("ERR_REDLOCK_QUORUM");
    const relay = createServer((socket) => {
      const server = connectTo(defined(cluster.servers[0]).port, "127.0.0.1");
      for (const end of [socket, server]) end.on("error", () => undefined);
      socket.pipe(server).pipe(socket);
    });
    relay.listen(port, "127.0.0.1");
    await once(relay, "listening");
    await until(
      () => redlock.using(fresh(), 60_000, () => true).catch(() => false),
      10_000,
      () => "the client does not connect again",
    );
    await redlock.quit();
    relay.close();
  });
});

describe.each(versions.slice(1))("groups under Sentinel by node-redis $version", ({ library }) => {
  let groups: SentinelGroup[] = [];

  beforeAll(async () => {
    groups = await startSentinels(3);
  });

  afterAll(() => Promise.all(groups.map((group) => group.stop())));

  function connect(): Client[] {
    return groups.map(({ sentinelPort }) => {
      const client = library.createSentinel({
        name: "locks",
        sentinelRootNodes: [{ host: "127.0.0.1", port: sentinelPort }],
      });
      client.on("error", () => undefined);
      return client;
    });
  }

  test("let nobody else in when masters have restarted empty under a lock", async () => {
    const clients = connect();
    const redlock = new Redlock(clients, SETTINGS);
    try {
      const resource = fresh();
      const lock = await redlock.acquire(resource, 600_000);
      const masters = groups.map(({ master }) => master);
      await untilHeld(masters, lock);
      // Each comes back before its Sentinel gives it up.
      for (const master of masters.slice(1)) {
        await master.kill();
        await master.restart();
      }
      await untilFree(masters.slice(1), resource);
      await until(
        async () => (await redlock.inspect(resource)).every(({ ok }) => ok),
        30_000,
        () => "a client does not connect again",
      );
      const error = await rejection(redlock.acquire(resource, 600_000));
      const { votesAgainst } = defined(await defined(error.attempts[0]));
      const reasons = clients.map((client) => defined(votesAgainst.get(client)).message);
      expect(reasons[0]).toBe("The operation was applied to: 0 of the 1 requested resources.");
      for (const reason of reasons.slice(1)) expect(reason).toMatch(/restarted or was replaced/);
      await lock.release();
    } finally {
      await redlock.quit();
    }
  });

  test("keep a held lock through a failover, and its master is followed", async () => {
    const clients = connect();
    // The guard holds a new master back from new locks, as it would a server that restarted.
    const settings = { ...SETTINGS, retryCount: 20, restartGuard: false } as const;
    const redlock = new Redlock(clients, settings);
    try {
      const resource = fresh();
      const lock = await redlock.acquire(resource, 600_000);
      const first = defined(groups[0]);
      await untilHeld(
        groups.map(({ master }) => master),
        lock,
      );
      await first.failOver();
      // Until then the client writes to the old master, which accepts it: no client can know better.
      await until(
        async () => {
          const asked = defined(clients[0]).sendCommand(false, ["INFO", "server"]);
          const info = await asked.catch(() => "");
          return String(info).includes(`tcp_port:${first.replica.port}\r`);
        },
        20_000,
        () => "the client does not follow the failover",
      );
      // The other two are a quorum whatever the failover costs.
      await lock.extend(600_000);
      await untilHeld([first.replica], lock);
      const other = await redlock.acquire(fresh(), 60_000);
      await untilHeld([first.replica], other);
      await other.release();
      await lock.release();
      await untilFree([first.replica], resource);
      expect((await redlock.health()).map(({ reachable }) => reachable)).toEqual([
        true,
        true,
        true,
      ]);
    } finally {
      await redlock.quit();
    }
  });
});
