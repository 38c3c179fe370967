import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import * as nodeRedis from "redis";
import * as nodeRedis4 from "redis-4";
import * as nodeRedis5 from "redis-5";
import {
  answersPing,
  diesWithParent,
  ensureServerBinary,
  freePorts,
  type RedisServer,
  startServer,
  startServers,
  stopAll,
  until,
} from "../support/servers.js";
import { type NodeEntry, Redlock } from "../../src/index.js";
import { certificateIn } from "../support/certificate.js";
import { untilWaiting } from "../support/line.js";
import { startProxy } from "../support/proxy.js";
import { documentedRights } from "../support/rights.js";
import { defined, fresh, rejection, untilFree, untilHeld } from "../support/nodes.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

// What docs/operations.md says that operators should do, done on real servers.

/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;

const nameOf = ({ port }: RedisServer): string => `127.0.0.1:${port}`;

const root = join(import.meta.dirname, "..", "..");

/** A node of the user with the documented rights, and what closes it if the Redlock does not. */
interface UsersNode {
  readonly entry: NodeEntry;
  readonly close: () => void;
}

function byUrl(port: number): UsersNode {
  return { entry: `redis://app:password@127.0.0.1:${port}`, close: () => undefined };
}

function byNodeRedis(library: unknown): (port: number) => UsersNode {
  const { createClient } = library as typeof nodeRedis;
  return (port) => {
    const client = createClient({ url: `redis://app:password@127.0.0.1:${port}` });
    client.on("error", () => undefined);
    const close = (): void => {
      if (!client.isOpen) return;
      // Version 4 has only what the later ones call deprecated.
      const { destroy, disconnect } = client as { destroy?: () => void; disconnect: () => unknown };
      if (destroy === undefined) void disconnect.call(client);
      else destroy.call(client);
    };
    return { entry: client, close };
  };
}

describe.each([
  { how: "a URL", nodeOf: byUrl, isThorough: true },
  { how: "a client of node-redis 6", nodeOf: byNodeRedis(nodeRedis), isThorough: true },
  // Which commands are sent is the library's choice, so one version shows that each right is needed.
  { how: "a client of node-redis 5", nodeOf: byNodeRedis(nodeRedis5), isThorough: false },
  { how: "a client of node-redis 4", nodeOf: byNodeRedis(nodeRedis4), isThorough: false },
])("the ACL line, for $how,", ({ nodeOf, isThorough }) => {
  const rules = documentedRights;

  let server: RedisServer;
  let admin: Redis;

  beforeAll(async () => {
    server = await startServer();
    admin = new Redis(server.port, "127.0.0.1");
  });

  afterAll(async () => {
    admin.disconnect();
    await server.stop();
  });

  /** Gives the user these rights and no other, and forgets what was refused before. */
  async function allow(given: readonly string[]): Promise<void> {
    await admin.call("ACL", "DELUSER", "app");
    await admin.call("ACL", "SETUSER", "app", "on", ">password", ...given);
    await admin.call("ACL", "LOG", "RESET");
    await admin.script("FLUSH");
  }

  /** What the server refused to the user since, but for the command by which clients introduce themselves. */
  async function refused(): Promise<string[]> {
    const entries = (await admin.call("ACL", "LOG")) as unknown[][];
    const objects = entries.map((entry) => String(entry[entry.indexOf("object") + 1]));
    return objects.filter((object) => !/^client(\|setinfo)?$/.test(object));
  }

  /** Uses every feature, and gives the errors of those that failed. */
  async function useAll(): Promise<unknown[]> {
    const settings = { keyPrefix: "lock:", nodeTimeout: 1000, retryCount: 2, retryDelay: 20 };
    const [node, otherNode] = [nodeOf(server.port), nodeOf(server.port)];
    const [one, other] = [
      new Redlock([node.entry], settings),
      new Redlock([otherNode.entry], settings),
    ];
    const signal = AbortSignal.timeout(2000);
    const steps: (() => Promise<unknown>)[] = [
      // Plain, extended, on several resources, fenced, and several in one turn.
      () => one.using(fresh(), 60_000, (_, lock) => lock.extend(60_000)),
      () => one.using([fresh(), fresh()], 60_000, () => undefined),
      () => one.using(fresh(), 60_000, { fencing: true }, (_, lock) => lock.extend(60_000)),
      () => Promise.all([fresh(), fresh()].map((name) => one.using(name, 60_000, () => undefined))),
      // A waiter to whom a lock is handed over, and one that gives up.
      async () => {
        const resource = fresh();
        const lock = await one.acquire(resource, 60_000);
        const waiting = other.acquire(resource, 60_000, { retryCount: -1, signal });
        const given = waiting.then((next) => next.release());
        given.catch(() => undefined);
        await Promise.race([untilWaiting(one, resource, 1), given, sleep(300)]);
        const leaving = one.acquire(resource, 60_000, { acquireTimeout: 50 });
        await leaving.catch(() => undefined);
        await lock.release();
        await given;
      },
      // The reports.
      () => one.inspect(fresh()),
      () => one.holder(fresh()),
      () => one.forceRelease(fresh()),
      () => one.health(),
      // A node that was silent.
      async () => {
        await server.freeze();
        const late = { nodeTimeout: 50, retryCount: 0 };
        await one.acquire(fresh(), 60_000, late).catch(() => undefined);
        server.thaw();
        await admin.ping();
        // The server may have answered another client first.
        const patient = { retryCount: 25, retryDelay: 20, retryJitter: 0 };
        await one.acquire(fresh(), 60_000, patient);
      },
    ];
    const failures: unknown[] = [];
    for (const step of steps) {
      await step().catch((error: unknown) => {
        failures.push(error);
      });
    }
    await Promise.all([one, other].map((redlock) => redlock[Symbol.asyncDispose]()));
    for (const { close } of [node, otherNode]) close();
    return failures;
  }

  test("is enough for every feature", async () => {
    await allow(rules);
    const events: string[] = [];
    const { entry, close } = nodeOf(server.port);
    const redlock = new Redlock([entry], { keyPrefix: "lock:", nodeTimeout: NODE_TIMEOUT_MS });
    redlock.on("error", ({ message }: Error) => {
      events.push(message);
    });
    expect(await useAll()).toEqual([]);
    expect(await refused()).toEqual([]);
    const lock = await redlock.acquire(fresh(), 60_000, { fencing: true });
    await lock.extend(60_000);
    await lock.release();
    expect((await redlock.health()).map(({ findings }) => findings)).toEqual([[]]);
    expect(events).toEqual([]);
    await redlock[Symbol.asyncDispose]();
    close();
  });

  if (!isThorough) return;

  test.each(rules.filter((rule) => rule !== "resetchannels"))("needs %s", async (rule) => {
    await allow(rules.filter((other) => other !== rule));
    await useAll();
    expect(await refused()).not.toEqual([]);
  });
});

describe("nodes in other regions, 150 ms away", () => {
  test("give locks of 20 s under the default timeouts, also on new connections", async () => {
    const servers = await startServers(3);
    const proxies = await Promise.all(servers.map(({ port }) => startProxy(port)));
    for (const proxy of proxies) proxy.replyDelayMs = 150;
    const redlock = new Redlock(proxies.map(({ url }) => url));
    try {
      for (let turn = 0; turn < 3; turn++) {
        const lock = await redlock.acquire(fresh(), 20_000, { retryCount: 0 });
        await lock.extend(20_000);
        await lock.release();
      }
    } finally {
      await redlock[Symbol.asyncDispose]();
      await Promise.all(proxies.map((proxy) => proxy.close()));
      await stopAll(servers);
    }
  });
});

describe("TLS", () => {
  const run = promisify(execFile);

  test("with a private CA works with a client that has it, and not without", async () => {
    const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-tls-"));
    const { key, certificate } = await certificateIn(directory);
    const ports = await freePorts(3);
    const servers = await Promise.all(
      ports.map((port) =>
        // prettier-ignore
        startServer({
          args: [
            "--tls-port", String(port), "--tls-cert-file", certificate, "--tls-key-file", key,
            "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no",
          ],
        }),
      ),
    );
    const ca = await readFile(certificate, "utf8");
    const clients = ports.map((port) => new Redis({ host: "127.0.0.1", port, tls: { ca } }));
    const trusting = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS });
    try {
      await trusting.using(fresh(), 60_000, () => undefined);
      // A process of its own: ioredis throws where it is disconnected in the middle of such a handshake.
      const program = `
        import { Redlock } from "./src/index.ts";
        const redlock = new Redlock(${JSON.stringify(ports.map((port) => `rediss://127.0.0.1:${port}`))});
        const settings = { retryCount: 0, nodeTimeout: ${NODE_TIMEOUT_MS} };
        await redlock.acquire("any", 60_000, settings).catch(({ message }) => console.log(message));
        process.exit();
      `;
      const { stdout } = await run(process.execPath, programs.args(program), {
        cwd: root,
        env: { ...process.env, NODE_OPTIONS: "" },
      });
      expect(stdout).toContain("DEPTH_ZERO_SELF_SIGNED_CERT");
    } finally {
      await trusting.quit();
      await stopAll(servers);
      await rm(directory, { recursive: true });
    }
  });
});

describe("Sentinel", () => {
  test("leads to the master of each group", async () => {
    const servers = await startServers(3);
    const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-sentinel-"));
    const ports = await freePorts(servers.length);
    const [prefix, binary] = [await diesWithParent(), await ensureServerBinary()];
    const sentinels = await Promise.all(
      servers.map(async ({ port }, index) => {
        const file = join(directory, `${index}.conf`);
        const monitor = `sentinel monitor locks 127.0.0.1 ${port} 1`;
        await writeFile(file, `port ${defined(ports[index])}\ndir ${directory}\n${monitor}\n`);
        const [program, ...args] = [...prefix, binary, file, "--sentinel"];
        const sentinel = spawn(program, args, { stdio: "ignore" });
        await until(
          () => answersPing(defined(ports[index])),
          10_000,
          () => "a Sentinel does not answer",
        );
        return sentinel;
      }),
    );
    const clients = ports.map(
      (port) => new Redis({ sentinels: [{ host: "127.0.0.1", port }], name: "locks" }),
    );
    const redlock = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS });
    try {
      const resource = fresh();
      const lock = await redlock.acquire(resource, 60_000);
      await untilHeld(servers, lock);
      await lock.release();
      await untilFree(servers, resource);
    } finally {
      await redlock.quit();
      for (const sentinel of sentinels) sentinel.kill("SIGKILL");
      await Promise.all(sentinels.map((sentinel) => once(sentinel, "exit")));
      await stopAll(servers);
      await rm(directory, { recursive: true });
    }
  });
});

describe("a lock that is stuck", () => {
  let servers: RedisServer[];
  let admins: Redis[];
  let redlock: Redlock;
  let resource = "";

  beforeEach(async () => {
    servers = await startServers(3);
    admins = servers.map(({ port }) => new Redis(port, "127.0.0.1"));
    redlock = redlockOf("api-7/4211");
    resource = fresh();
  });

  afterEach(async () => {
    await redlock.quit();
    for (const admin of admins) admin.disconnect();
    await stopAll(servers);
  });

  function redlockOf(owner: string): Redlock {
    return new Redlock(
      servers.map(({ url }) => url),
      { nodeTimeout: NODE_TIMEOUT_MS, owner },
    );
  }

  test("is found by inspect, and freed by DEL on its nodes", async () => {
    const dead = await redlock.acquire(resource, 60_000);
    await untilHeld(servers, dead);
    const nodes = await redlock.inspect(resource);
    for (const { resources } of nodes) {
      expect(resources[0]).toMatchObject({ value: dead.value, owner: "api-7/4211" });
    }
    const waiting = redlock.acquire(resource, 60_000, { retryCount: -1 });
    await untilWaiting(redlock, resource, 1);
    for (const admin of admins) await admin.del(resource);
    const next = await waiting;
    expect((await rejection(dead.extend(60_000))).code).toBe("ERR_REDLOCK_QUORUM");
    await next.release();
  });

  test("is found by holder(), and freed by forceRelease(), which hands over to the next waiter", async () => {
    const other = redlockOf("worker/2");
    try {
      const held = await redlock.acquire(resource, 60_000, { fencing: true });
      await untilHeld(servers, held);
      // Without a hand-over, this waiter would try again only after a minute.
      const slow = { retryCount: -1, retryDelay: 60_000, retryJitter: 0, fencing: true };
      const waiting = other.acquire(resource, 60_000, slow);
      await untilWaiting(redlock, resource, 1);
      const holder = await redlock.holder(resource);
      const { value, fence } = held;
      expect(holder).toMatchObject({ owner: "api-7/4211", value, fence, waiters: 1 });
      expect(holder?.remainingMs).toBeLessThanOrEqual(60_000);

      const ended = await redlock.forceRelease(resource);
      expect(ended).toMatchObject([{ resource, owner: "api-7/4211", value }]);
      expect([...(ended[0]?.nodes ?? [])].sort()).toEqual(servers.map(nameOf).sort());
      const next = await waiting;
      expect(next.fence).toBeGreaterThan(Number(fence));
      expect(await redlock.holder(resource)).toMatchObject({ owner: "worker/2", waiters: 0 });

      // The former holder learns of it when it extends.
      expect(held.signal.aborted).toBe(false);
      expect(await rejection(held.extend(60_000))).toMatchObject({ reason: "expired" });
      expect(held.signal.reason).toMatchObject({ code: "ERR_REDLOCK_LOST", lock: held });
      expect(next.valid).toBe(true);
      // A release resolves with its majority; the others may get it after what another connection sends.
      await next.release();
      await untilFree(servers, resource);
      expect(await redlock.holder(resource)).toBeNull();
      expect(await redlock.forceRelease(resource)).toEqual([]);
    } finally {
      await other.quit();
    }
  });

  test("that is other data of an application stays", async () => {
    for (const admin of admins) await admin.rpush(resource, "a job");
    expect(await redlock.holder(resource)).toBeNull();
    expect(await redlock.forceRelease(resource)).toEqual([]);
    for (const admin of admins) expect(await admin.llen(resource)).toBe(1);
  });

  test("can neither be found nor freed while a majority of the nodes is dead, and the errors say so", async () => {
    const held = await redlock.acquire(resource, 60_000);
    await untilHeld(servers, held);
    await Promise.all(servers.slice(1).map((server) => server.kill()));
    for (const call of ["holder", "forceRelease"] as const) {
      const error = await rejection(redlock[call](resource));
      expect(error).toMatchObject({ code: "ERR_REDLOCK_QUORUM", reason: "unavailable" });
      expect(error).toMatchObject({ resources: [resource] });
      expect(error.message).toContain("1 of 3 nodes");
    }
  });
});
