import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from "@jest/globals";
import { Redis, type RedisOptions } from "ioredis";
import { Redis as Redis5 } from "ioredis-5";
import { Redis as Valkey } from "iovalkey";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { ask, freePorts, type RedisServer, startServer, until } from "../support/servers.js";
import { type Environment, systemEnvironment } from "../../src/runtime/environment.js";
import { withInternals } from "../../src/internals.js";
import type { Connection } from "../../src/clients/connection.js";
import { checkEntry } from "../../src/nodes/entries.js";
import { Redlock } from "../../src/index.js";
import { connectAll, defined, disconnectAll, fresh, rejection } from "../support/nodes.js";
import { startFullServer, startProxy, startStubbornServer } from "../support/proxy.js";

const TTL_MS = 60_000;

let server: RedisServer;

beforeAll(async () => {
  server = await startServer();
});

afterAll(async () => {
  await server.stop();
});

describe("the name of a node", () => {
  test("is that of its group, and of the first of its Sentinels, where it leads to a master through them", async () => {
    const groups = [
      {
        name: "first",
        sentinels: [
          { host: "127.0.0.1", port: 1 },
          { host: "127.0.0.1", port: 2 },
        ],
      },
      { name: "second", sentinels: [{ host: "127.0.0.1", port: 1 }] },
      { name: "second", sentinels: [{ host: "::1", port: 1 }] },
      { name: "third", sentinels: [{}] },
    ];
    const clients = groups.map((group) => {
      const client = new Redis({ ...group, lazyConnect: true });
      client.on("error", () => undefined);
      return client;
    });
    const redlock = new Redlock(clients, { nodeTimeout: 50, retryCount: 0 });
    const names = (await redlock.inspect(fresh())).map(({ node }) => node);
    expect(names).toEqual([
      "sentinel first@127.0.0.1:1",
      "sentinel second@127.0.0.1:1",
      "sentinel second@::1:1",
      "sentinel third@127.0.0.1:26379",
    ]);
    const { message } = await rejection(redlock.acquire(fresh(), TTL_MS));
    for (const name of names) expect(message).toContain(`${name} `);
    disconnectAll(clients);
  });
});

describe("the text of a URL", () => {
  test.each(["REDISS://", " rediss://", "Rediss://"])(
    "may begin with %j, and its password still goes over TLS only",
    async (start) => {
      const received = new Promise<Buffer>((resolve) => {
        listener.once("connection", (socket) => {
          socket.on("error", () => undefined).once("data", resolve);
        });
      });
      const redlock = new Redlock([`${start}:secret@127.0.0.1:${portOf(listener)}`]);
      const [first] = await received;
      await redlock.quit();
      // A handshake of TLS begins with this byte.
      expect(first).toBe(0x16);
    },
  );

  const listener = createServer();

  beforeAll(async () => {
    await once(listener.listen(0, "127.0.0.1"), "listening");
  });

  afterAll(() => {
    listener.close();
  });
});

function portOf(listener: Server): number {
  return (listener.address() as AddressInfo).port;
}

/** A connection of the library's own, and the client behind it. */
function connect(url: string): { readonly connection: Connection; readonly client: Redis } {
  // It connects at once.
  const connects = jest.spyOn(Redis.prototype, "connect");
  const connection = checkEntry(url, "nodes[0]").connect(systemEnvironment);
  const client = connects.mock.contexts[0] as Redis | undefined;
  connects.mockRestore();
  return { connection, client: defined(client) };
}

/** What becomes of a promise, within a time that is far above what it takes. */
async function outcomeOf(
  promise: Promise<unknown>,
  limitMs = 10_000,
): Promise<{ value: unknown } | { error: unknown }> {
  let outcome: { value: unknown } | { error: unknown } | undefined;
  promise.then(
    (value) => (outcome = { value }),
    (error: unknown) => (outcome = { error }),
  );
  await until(
    () => outcome !== undefined,
    limitMs,
    () => "the promise is not settled",
  );
  return defined(outcome);
}

function untilStatus(client: Redis, status: string): Promise<void> {
  return until(
    () => client.status === status,
    10_000,
    () => `the client is ${client.status}, not ${status}`,
  );
}

describe("a connection that the library makes", () => {
  test("fails at once what cannot be sent now: before it is open, and while it is lost", async () => {
    const proxy = await startProxy(server.port);
    const { connection, client } = connect(proxy.url);
    try {
      const [first, second] = [fresh(), fresh()];
      expect(await outcomeOf(connection.send("set", [first, "1"]))).toHaveProperty("error");
      await untilStatus(client, "ready");
      proxy.cut();
      await untilStatus(client, "reconnecting");
      expect(await outcomeOf(connection.send("set", [second, "1"]))).toHaveProperty("error");
      await untilStatus(client, "ready");
      expect(await connection.send("exists", [first, second])).toBe(0);
    } finally {
      connection.disconnect();
      await proxy.close();
    }
  });

  test("fails what has no answer when it is lost, at once, and sends it no second time", async () => {
    const proxy = await startProxy(server.port);
    const { connection, client } = connect(proxy.url);
    try {
      await connection.opened();
      const key = fresh();
      proxy.swallowing = true;
      const asked = connection.send("incr", [key]);
      asked.catch(() => undefined);
      await until(
        () => proxy.received.includes(key),
        10_000,
        () => "the command was not sent",
      );
      const reopened = connection.opened().catch(() => connection.opened());
      proxy.swallowing = false;
      proxy.cut();
      expect(await outcomeOf(asked)).toHaveProperty("error");
      await reopened;
      expect(await connection.send("get", [key])).toBeNull();
      expect(proxy.received.split("incr")).toHaveLength(2);
      // The client's own word that it will not, whatever else decides it.
      expect(client.options.autoResendUnfulfilledCommands).toBe(false);
    } finally {
      connection.disconnect();
      await proxy.close();
    }
  });

  test("gives up a connection that is not made in a second", async () => {
    const full = await startFullServer();
    const { connection } = connect(full.url);
    try {
      const outcome = await outcomeOf(connection.opened(), 6000);
      expect(outcome).toHaveProperty("error.code", "ETIMEDOUT");
    } finally {
      connection.disconnect();
      await full.close();
    }
  });

  test("is tried again soon after it is lost, and at least twice a second, however long its server is gone", () => {
    const { connection, client } = connect(server.url);
    const { options } = client;
    const delaysMs = [1, 2, 3, 10, 100, 100_000].map((failures) =>
      options.retryStrategy?.(failures),
    );
    expect(delaysMs).toEqual([50, 100, 150, 500, 500, 500]);
    connection.disconnect();
  });

  test("is given up for a new one where nothing is heard on it for five seconds", async () => {
    const proxy = await startProxy(server.port);
    const redlock = new Redlock([proxy.url], {
      nodeTimeout: 300,
      retryCount: 0,
      restartGuard: false,
    });
    const acquire = () => redlock.acquire(fresh(), TTL_MS);
    try {
      await until(
        async () => (await redlock.inspect("r")).every(({ ok }) => ok),
        10_000,
        () => "the node cannot be reached",
      );
      // As behind a router that forgot the connection: it stays open, and nothing arrives.
      proxy.forget();
      const startMs = performance.now();
      expect(await rejection(acquire())).toHaveProperty("code", "ERR_REDLOCK_QUORUM");
      await until(
        async () => (await redlock.tryAcquire(fresh(), TTL_MS).catch(() => null)) !== null,
        30_000,
        () => "the node stays silent",
      );
      expect(performance.now() - startMs).toBeGreaterThan(5000);
    } finally {
      await redlock.quit();
      await proxy.close();
    }
  });
});

describe("the state of a connection", () => {
  test("is connecting before its first failure, whatever the client has done so far", async () => {
    const mute = await startStubbornServer();
    const { connection, client } = connect(mute.url);
    const lazy = new Redis(mute.port, "127.0.0.1", { lazyConnect: true });
    const ofCaller = checkEntry(lazy, "nodes[1]").connect(systemEnvironment);
    try {
      expect([client.status, connection.state]).toEqual(["connecting", "connecting"]);
      // The server accepts, and says nothing.
      await untilStatus(client, "connect");
      expect(connection.state).toBe("connecting");
      expect([lazy.status, ofCaller.state]).toEqual(["wait", "connecting"]);
      void ofCaller.opened().catch(() => undefined);
      await untilStatus(lazy, "connect");
      expect(ofCaller.state).toBe("connecting");
    } finally {
      connection.disconnect();
      lazy.disconnect();
      await mute.close();
    }
  });

  test("is ready while it is open, and down from its loss until it is open again", async () => {
    const proxy = await startProxy(server.port);
    const { connection, client } = connect(proxy.url);
    try {
      await connection.opened();
      expect(connection.state).toBe("ready");
      proxy.swallowing = true;
      proxy.cut();
      await untilStatus(client, "reconnecting");
      expect(connection.state).toBe("down");
      // It is connected to a server that says nothing: nobody waits for it a second time.
      await untilStatus(client, "connect");
      expect(connection.state).toBe("down");
      proxy.swallowing = false;
      proxy.cut();
      await connection.opened().catch(() => connection.opened());
      expect(connection.state).toBe("ready");
      connection.disconnect();
      await untilStatus(client, "end");
      expect(connection.state).toBe("down");
    } finally {
      connection.disconnect();
      await proxy.close();
    }
  });

  test("says that the server does not answer, where it was replaced for that and the server still hangs", async () => {
    const proxy = await startProxy(server.port);
    const { connection, client } = connect(proxy.url);
    try {
      await connection.opened();
      proxy.swallowing = true;
      connection.renew?.();
      await untilStatus(client, "connect");
      expect(connection.state).toBe("down");
      expect(connection.failure?.message).toBe("no answer on a new connection");
      proxy.swallowing = false;
      proxy.cut();
      await connection.opened().catch(() => connection.opened());
      expect(connection.failure).toBeUndefined();
    } finally {
      connection.disconnect();
      await proxy.close();
    }
  });

  test("is down after its first failure, also while it connects again", async () => {
    const [port = 0] = await freePorts(1);
    const { connection, client } = connect(`redis://127.0.0.1:${port}`);
    const states: [string, string][] = [];
    const note = (): void => void states.push([client.status, connection.state]);
    try {
      await rejection(connection.opened());
      expect(connection.state).toBe("down");
      client.on("connecting", note);
      await until(
        () => states.length >= 2,
        10_000,
        () => "the client does not try again",
      );
      for (const [status, state] of states) expect([status, state]).toEqual(["connecting", "down"]);
    } finally {
      connection.disconnect();
    }
  });
});

describe("a node that refuses the database of its client", () => {
  const select = (rule: "+select" | "-select"): Promise<string> =>
    ask(server.port, ["ACL", "SETUSER", "elsewhere", "on", ">s", "allkeys", "+@all", rule]);
  /** The databases that have keys. */
  const databases = async (): Promise<string[]> => [
    ...((await ask(server.port, ["INFO", "keyspace"])).match(/db\d+/g) ?? []),
  ];

  const untilGranted = (redlock: Redlock): Promise<void> =>
    until(
      () =>
        redlock.tryAcquire(fresh(), TTL_MS).then(
          (lock) => lock !== null,
          () => false,
        ),
      10_000,
      () => "the node does not come back",
    );
  type Kind = new (options: RedisOptions) => Redis;
  const clientOf = (kind: unknown, options: RedisOptions): Redis =>
    new (kind as Kind)({
      port: server.port,
      username: "elsewhere",
      password: "s",
      db: 3,
      ...options,
    });

  beforeEach(async () => {
    await ask(server.port, ["FLUSHALL"]);
    await select("-select");
  });

  test("grants nothing to a URL in another database, until it lets it into its own", async () => {
    const url = `redis://elsewhere:s@127.0.0.1:${server.port}/3`;
    const redlock = new Redlock([url], { nodeTimeout: 5000, retryCount: 0 });
    try {
      for (let times = 0; times < 3; times++) {
        const error = await rejection(redlock.acquire(fresh(), TTL_MS));
        expect(error.message).toMatch(/the database of this client was refused: NOPERM/);
        expect(error.reason).toBe("unavailable");
      }
      const [report] = await redlock.health();
      expect(report?.findings.join()).toContain("NOPERM");
      expect(await databases()).toEqual([]);
      await select("+select");
      await untilGranted(redlock);
      expect(await databases()).toEqual(["db3"]);
    } finally {
      await redlock.quit();
    }
  });

  const kinds = { "ioredis 6": Redis, "ioredis 5": Redis5, iovalkey: Valkey };
  const ways = Object.entries(kinds).flatMap(([name, kind]) =>
    [true, false].map((enableReadyCheck) => [name, enableReadyCheck, kind] as const),
  );

  test.each(ways)(
    "grants nothing to a client of %s in another database, with a ready check: %s",
    async (_, enableReadyCheck, kind) => {
      const client = clientOf(kind, { enableReadyCheck, retryStrategy: () => 50 });
      const redlock = new Redlock([client], { nodeTimeout: 5000, retryCount: 0 });
      try {
        // Without a ready check, the first command is on its way before the refusal arrives. It is no vote.
        const early = /refused: NOPERM|lost before the answer/;
        expect((await rejection(redlock.acquire(fresh(), TTL_MS))).message).toMatch(early);
        await ask(server.port, ["FLUSHALL"]);
        const { message } = await rejection(redlock.acquire(fresh(), TTL_MS));
        expect(message).toMatch(/the database of this client was refused: NOPERM/);
        expect(await databases()).toEqual([]);
        await select("+select");
        client.disconnect(true);
        await untilGranted(redlock);
        expect(await databases()).toEqual(["db3"]);
      } finally {
        client.disconnect();
      }
    },
  );

  test.each(Object.entries(kinds))(
    "grants nothing to a client of %s that was ready before its Redlock was made, and lets its owner's commands end",
    async (_, kind) => {
      const client = clientOf(kind, { retryStrategy: () => null });
      client.on("error", () => undefined);
      await until(
        () => client.status === "ready",
        10_000,
        () => "the client is not ready",
      );
      const redlock = new Redlock([client], { nodeTimeout: 5000, retryCount: 0 });
      await rejection(redlock.acquire(fresh(), TTL_MS));
      await ask(server.port, ["FLUSHALL"]);
      const { message } = await rejection(redlock.acquire(fresh(), TTL_MS));
      expect(message).toMatch(/the database of this client was refused: NOPERM/);
      expect(await databases()).toEqual([]);
      const pong = client.ping();
      await redlock.quit();
      expect(await pong).toBe("PONG");
    },
  );
});

describe("the connection of a caller's client", () => {
  test("counts by the clocks of the Redlock that has it, also where another one has its client", async () => {
    const own = await startServer();
    const [client] = await connectAll([own]);
    // By another clock, as after a thousand hours.
    const environment: Environment = {
      ...systemEnvironment,
      now: () => ({ ...systemEnvironment.now(), monotonicMs: environment.monotonicMs() }),
      monotonicMs: () => systemEnvironment.monotonicMs() + 3_600_000_000,
    };
    const settings = { nodeTimeout: 5000, retryCount: 0, restartGuard: TTL_MS };
    const usual = new Redlock([defined(client)], settings);
    const internals = { environment, checkNode: checkEntry };
    const other = new Redlock([defined(client)], withInternals(internals, settings));
    try {
      for (const redlock of [usual, other]) await redlock.inspect(fresh());
      await own.kill();
      await own.restart();
      for (const redlock of [usual, other]) {
        await until(
          async () => (await redlock.inspect(fresh())).every(({ ok }) => ok),
          10_000,
          () => "the node did not come back",
        );
        const { message } = await rejection(redlock.acquire(fresh(), TTL_MS));
        expect(message).toMatch(
          /restarted or was replaced \d.* ago: its votes count again in \d+\.\d s/,
        );
      }
    } finally {
      disconnectAll([defined(client)]);
      await own.stop();
    }
  });
});
