import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { Redis } from "ioredis";
import { execFileSync } from "node:child_process";
import { Redis as Redis5 } from "ioredis-5";
import { setTimeout as sleep } from "node:timers/promises";
import { isLikeIoredis } from "../support/clients.js";
import { ask, type RedisServer, startServer, until } from "../support/servers.js";
import { Redlock } from "../../src/index.js";
import {
  defined,
  disconnectAll,
  fresh,
  occupy,
  rejection,
  untilFree,
  valuesOn,
} from "../support/nodes.js";
import { startProxy, startStubbornServer } from "../support/proxy.js";
import { isAtLeast } from "../support/server-version.js";
import { testedServer } from "../support/tested-server.js";
import { useServersAndClients } from "../support/use-servers.js";

/** Long, so that an operation that waits for a faulty node is told apart from a slow machine. */
const NODE_TIMEOUT_MS = 10_000;
/** Servers that come back count at once here; tests/redis/restart-guard.test.ts is about those that forgot. */
const UNGUARDED = { restartGuard: false } as const;

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(async () => {
  redlock = new Redlock(clients, UNGUARDED);
  await (await redlock.acquire(fresh(), 5000)).release();
});

afterEach(async () => {
  for (const server of servers) {
    if (server.state === "frozen") server.thaw();
    if (server.state === "ended") await server.restart();
  }
  await everyNodeVotes();
});

async function everyNodeVotes(): Promise<void> {
  await until(
    async () => {
      const lock = await redlock.acquire(fresh(), 5000).catch(() => undefined);
      const stats = await lock?.attempts.at(-1);
      await lock?.release();
      return stats?.votesFor.size === servers.length;
    },
    20_000,
    () => "a node does not vote",
  );
}

function freeze(count: number): Promise<unknown> {
  return Promise.all(servers.slice(0, count).map((server) => server.freeze()));
}

/** Until the clients know: one that does not yet keeps the next command for its next connection, without an error. */
async function kill(count: number): Promise<void> {
  await Promise.all(servers.slice(0, count).map((server) => server.kill()));
  await until(
    () => clients.slice(0, count).every(({ status }) => status !== "ready"),
    5000,
    () => "a client takes a dead server for ready",
  );
}

const faults = [
  ["hung", freeze],
  ["dead", kill],
] as const;

describe.each(faults)("nodes that are %s", (kind, strike) => {
  test.each([1, 2])("cost nothing where they are %d of five", async (count) => {
    await strike(count);
    const start = performance.now();
    for (let pair = 0; pair < 20; pair++) {
      const lock = await redlock.acquire(fresh(), 60_000, { nodeTimeout: NODE_TIMEOUT_MS });
      expect(lock.valid).toBe(true);
      await lock.extend(60_000);
      await lock.release();
    }
    expect(performance.now() - start).toBeLessThan(NODE_TIMEOUT_MS);
  });

  test("fail an acquire in time where they are a majority, by name and reason", async () => {
    await strike(3);
    const nodeTimeout = 300;
    const start = performance.now();
    const error = await rejection(redlock.acquire(fresh(), 60_000, { retryCount: 0, nodeTimeout }));
    expect(performance.now() - start).toBeLessThan(nodeTimeout + 1000);
    expect(error.code).toBe("ERR_REDLOCK_QUORUM");
    for (const { port } of servers.slice(0, 3)) {
      // Each client says in its own words that a connection was lost.
      const lost =
        "(ECONNREFUSED|ECONNRESET|EPIPE|Connection is closed|Socket closed unexpectedly)";
      const why = kind === "hung" ? "no answer" : lost;
      expect(error.message).toMatch(new RegExp(`127\\.0\\.0\\.1:${port} ${why}`));
    }
    for (const { port } of servers.slice(3)) expect(error.message).not.toContain(String(port));
  });

  test("fail every call within its budget where they are a majority", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await strike(3);
    const budget = { retryCount: 3, nodeTimeout: 100, retryDelay: 50, retryJitter: 20 };
    const budgetMs = 4 * (100 + 50 + 20);
    for (const call of [
      () => redlock.acquire(fresh(), 60_000, budget),
      () => redlock.acquire(fresh(), 60_000, { nodeTimeout: 100, acquireTimeout: budgetMs }),
      () => redlock.extend(lock, 60_000, budget),
      () => redlock.release(lock, budget),
      () => redlock.tryAcquire(fresh(), 60_000, budget),
      () => redlock.using(fresh(), 60_000, budget, () => Promise.resolve()),
    ]) {
      const start = performance.now();
      await rejection(call());
      expect(performance.now() - start).toBeLessThan(budgetMs + 1000);
    }
  });

  test("let the event loop turn for a caller that asks again and again in vain", async () => {
    const lock = await redlock.acquire(fresh(), 60_000);
    await strike(3);
    const inVain = { retryCount: 0, nodeTimeout: 50 };
    await rejection(redlock.acquire(fresh(), 60_000, inVain));
    for (const call of [
      () => redlock.acquire(fresh(), 60_000, inVain),
      () => redlock.tryAcquire(fresh(), 60_000, inVain),
      () => redlock.extend(lock, 60_000, inVain),
    ]) {
      let turns = 0;
      const count = (): void => {
        turns += 1;
        turning = setImmediate(count);
      };
      let turning = setImmediate(count);
      for (let index = 0; index < 20; index++) await rejection(call());
      clearImmediate(turning);
      expect(turns).toBeGreaterThanOrEqual(20);
    }
  });

  test("vote again once they are back", async () => {
    await strike(3);
    await rejection(redlock.acquire(fresh(), 2000, { retryCount: 0 }));
    const waiting = redlock.acquire(fresh(), 2000, { retryCount: -1, retryDelay: 20 });
    for (const server of servers.slice(0, 3)) {
      if (kind === "hung") server.thaw();
      else await server.restart();
    }
    await (await waiting).release();
  });

  test("are not asked again before they are back", async () => {
    await strike(1);
    const struck = defined(clients[0]);
    // Until it is known that the node is down or silent.
    await until(
      async () => {
        const before = struck.sent.length;
        const lock = await redlock.acquire(fresh(), 5000, { nodeTimeout: 50 });
        await lock.attempts[0];
        await lock.release();
        return struck.sent.length === before;
      },
      10_000,
      () => "the node is asked all the time",
    );
    const before = struck.sent.length;
    for (let pair = 0; pair < 20; pair++) await (await redlock.acquire(fresh(), 5000)).release();
    expect(struck.sent.slice(before)).toEqual([]);
  });
});

describe("releases that a node is owed", () => {
  test("are sent when a hung node answers again, before any vote is asked of it", async () => {
    const resource = fresh();
    await freeze(1);
    const lock = await redlock.acquire(resource, 60_000, { nodeTimeout: 50 });
    await Promise.all(lock.attempts);
    await lock.release();
    // The frozen node still has to read the first SET.
    defined(servers[0]).thaw();
    await untilFree(servers, resource);
  });

  test("reach a node that was busy with another's script", async () => {
    const resource = fresh();
    const { port } = defined(servers[0]);
    const client = defined(clients[0]);
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    const others = await Promise.all(
      Array.from({ length: 20 }, () => redlock.acquire(fresh(), 60_000)),
    );
    await ask(port, ["CONFIG", "SET", "lua-time-limit", "20"]);
    const blocking = ask(port, ["EVAL", "while true do end", "0"]).catch(() => undefined);
    await until(
      async () => (await ask(port, ["PING"]).catch(String)).includes("BUSY"),
      10_000,
      () => "the server is not busy",
    );
    const [released] = (await lock.release()).attempts;
    const [refusal] = (await defined(released)).votesAgainst.values();
    expect(defined(refusal).message).toMatch(/^BUSY /);
    for (const other of others) await Promise.all((await other.release()).attempts);
    // Each was sent twice. Of those that are owed one is sent after each pause, not all with each command.
    client.sent = [];
    for (let index = 0; index < 10; index++) {
      await rejection(redlock.extend(lock, 60_000));
      await Promise.all((await redlock.acquire(fresh(), 100)).attempts);
    }
    expect(client.sent.length).toBeLessThan(100);
    await ask(port, ["SCRIPT", "KILL"]);
    await blocking;
    // Nothing else is sent to it.
    for (const { resources } of [lock, ...others]) await untilFree(servers, defined(resources[0]));
  });

  const refusals: [string, readonly string[], readonly string[]][] = [
    [
      "NOREPLICAS",
      ["CONFIG", "SET", "min-replicas-to-write", "1"],
      ["CONFIG", "SET", "min-replicas-to-write", "0"],
    ],
    ["READONLY", ["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]],
  ];

  test.each(
    // A script in Redis 6 writes also while there are too few replicas.
    refusals.filter(([refusal]) => refusal !== "NOREPLICAS" || isAtLeast(testedServer, 7, 0)),
  )(
    "reach a majority that refused writes at the end of using() for a moment: %s",
    async (refusal, refuse, accept) => {
      const resource = fresh();
      const ttl = 20_000;
      const tell = (command: readonly string[]): Promise<unknown> =>
        Promise.all(servers.slice(0, 3).map(({ port }) => ask(port, command)));
      const heard: string[] = [];
      const listening = new Redlock(clients, UNGUARDED);
      listening.on("error", ({ message }: Error) => heard.push(message));
      try {
        await listening.using(resource, ttl, () => tell(refuse));
        expect(heard.filter((message) => message.includes(refusal))).not.toEqual([]);
        await sleep(300);
        const held = (await valuesOn(servers, resource)).filter((value) => value !== null);
        expect(held).toHaveLength(3);
      } finally {
        await tell(accept);
      }
      // Nothing else is sent to them.
      const start = performance.now();
      await untilFree(servers, resource);
      await (await redlock.acquire(resource, ttl)).release();
      expect(performance.now() - start).toBeLessThan(ttl / 4);
    },
  );

  test("reach a node that hung for longer than the ttl with the acquire in flight", async () => {
    const [failed, released] = [fresh(), fresh()];
    const ttl = 3000;
    await freeze(1);
    const alone = new Redlock(clients.slice(0, 1), UNGUARDED);
    await rejection(alone.acquire(failed, ttl, { retryCount: 0, nodeTimeout: 50 }));
    const other = new Redlock(clients, UNGUARDED);
    const lock = await other.acquire(released, ttl, { nodeTimeout: 50 });
    await lock.release();
    const end = performance.now() + ttl + 500;
    await until(
      () => performance.now() > end,
      ttl + 5000,
      () => "the clock stands still",
    );
    defined(servers[0]).thaw();
    // The server sets the keys only now. The first answer shows that it has.
    await defined(clients[0]).ping();
    const start = performance.now();
    await untilFree(servers, failed);
    await untilFree(servers, released);
    expect(performance.now() - start).toBeLessThan(ttl / 2);
  });

  test("reach a node that the caller's client sends the acquire again, after the ttl", async () => {
    const resource = fresh();
    const ttl = 1000;
    const proxy = await startProxy(defined(servers[0]).port);
    const client = new Redis(proxy.port, "127.0.0.1", { retryStrategy: () => ttl + 500 });
    client.on("error", () => undefined);
    await client.ping();
    const behind = new Redlock([client]);
    proxy.swallowing = true;
    await rejection(behind.acquire(resource, ttl, { retryCount: 0, nodeTimeout: 50 }));
    proxy.swallowing = false;
    proxy.cut();
    await until(
      () => client.status === "ready" && proxy.received.split(`$3\r\nset\r\n`).length > 2,
      10_000,
      () => "the client did not come back",
    );
    await client.ping();
    const start = performance.now();
    await untilFree(servers.slice(0, 1), resource);
    expect(performance.now() - start).toBeLessThan(ttl / 2);
    client.disconnect();
    await proxy.close();
  });

  test("reach a node whose connection was lost with the acquire in flight", async () => {
    const resource = fresh();
    const proxy = await startProxy(defined(servers[0]).port);
    const behind = new Redlock([proxy.url]);
    await (await behind.acquire(fresh(), 5000)).release();
    proxy.replyDelayMs = 60_000;
    const failing = rejection(
      behind.acquire(resource, 60_000, { retryCount: 0, nodeTimeout: NODE_TIMEOUT_MS }),
    );
    await until(
      async () => (await valuesOn(servers.slice(0, 1), resource))[0] !== null,
      5000,
      () => "the key was not set",
    );
    proxy.replyDelayMs = 0;
    proxy.cut();
    await failing;
    await untilFree(servers.slice(0, 1), resource);
    await behind.quit();
    await proxy.close();
  });

  test("are kept for the ttl, and not longer", async () => {
    const proxy = await startProxy(defined(servers[0]).port);
    const behind = new Redlock([proxy.url]);
    const lock = await behind.acquire(fresh(), 500);
    proxy.swallowing = true;
    await rejection(behind.release(lock, { retryCount: 0, nodeTimeout: 50 }));
    // It is owed for a ttl from the release on, which may come long after the acquire.
    const end = performance.now() + 500;
    await until(
      () => performance.now() > end,
      5000,
      () => "the clock stands still",
    );
    const { length } = proxy.received;
    proxy.swallowing = false;
    proxy.cut();
    await until(
      async () => (await behind.tryAcquire(fresh(), 5000).catch(() => null)) !== null,
      10_000,
      () => "the node did not come back",
    );
    expect(proxy.received.slice(length)).not.toContain(lock.value);
    await behind.quit();
    await proxy.close();
  });
});

describe("a resent command", () => {
  test("is no vote: the node may have forgotten what it knew when it was sent first", async () => {
    const resource = fresh();
    const proxy = await startProxy(defined(servers[0]).port);
    // As many callers have it: ioredis resends unfulfilled commands on a new connection.
    const client = new Redis(proxy.port, "127.0.0.1", { retryStrategy: () => 10 });
    client.on("error", () => undefined);
    await client.ping();
    const behind = new Redlock([client]);
    proxy.swallowing = true;
    const failing = rejection(
      behind.acquire(resource, 60_000, { retryCount: 0, nodeTimeout: NODE_TIMEOUT_MS }),
    );
    await until(
      () => proxy.received.includes(resource),
      5000,
      () => "nothing was sent",
    );
    proxy.swallowing = false;
    proxy.cut();
    expect((await failing).message).toContain("the connection was lost before the answer");
    await untilFree(servers.slice(0, 1), resource);
    client.disconnect();
    await proxy.close();
  });
});

describe("a node that answers errors", () => {
  /** A sixth server, as one of three: the other two can outvote it. */
  async function withNode(
    prepare: (server: RedisServer) => Promise<unknown>,
    expected: string,
    args: readonly string[] = [],
  ): Promise<void> {
    const odd = await startServer({ args });
    const client = new Redis(odd.port, "127.0.0.1");
    client.on("error", () => undefined);
    await client.ping();
    await prepare(odd);
    const patient = { nodeTimeout: NODE_TIMEOUT_MS };
    const three = new Redlock([client, ...clients.slice(1, 3)], { ...UNGUARDED, ...patient });
    const events: string[] = [];
    three.on("error", (error, node) => events.push(`${String(node)} ${error.message}`));
    const lock = await three.acquire(fresh(), 5000);
    const { votesAgainst } = await defined(lock.attempts[0]);
    expect(defined(votesAgainst.get(client)).message).toContain(expected);
    await lock.release();
    expect(events.join()).toContain(`127.0.0.1:${odd.port} ${expected}`);

    const alone = new Redlock([client], patient);
    const error = await rejection(alone.acquire(fresh(), 5000, { retryCount: 0 }));
    expect(error.message).toContain(`127.0.0.1:${odd.port} ${expected}`);
    client.disconnect();
    await odd.stop();
  }

  test("is outvoted, and named: READONLY", async () => {
    // Of a master that is not there, so that it never loads anything.
    await withNode(({ port }) => ask(port, ["REPLICAOF", "127.0.0.1", "1"]), "READONLY");
  });

  test("is outvoted, and named: OOM", async () => {
    await withNode(({ port }) => ask(port, ["CONFIG", "SET", "maxmemory", "1"]), "OOM");
  });

  test("is outvoted, and named: NOAUTH", async () => {
    const odd = await startServer({ args: ["--requirepass", "secret"] });
    const client = new Redis(odd.port, "127.0.0.1", { enableReadyCheck: false });
    client.on("error", () => undefined);
    const patient = { nodeTimeout: NODE_TIMEOUT_MS };
    const three = new Redlock([client, ...clients.slice(1, 3)], { ...UNGUARDED, ...patient });
    const lock = await three.acquire(fresh(), 5000);
    const { votesAgainst } = await defined(lock.attempts[0]);
    expect(defined(votesAgainst.get(client)).message).toContain("NOAUTH");
    await lock.release();
    client.disconnect();
    await odd.stop();
  });

  test("is outvoted, and named: LOADING", async () => {
    const loading = await startStubbornServer("-LOADING Redis is loading the dataset in memory");
    const client = new Redis(loading.port, "127.0.0.1", { enableReadyCheck: false });
    client.on("error", () => undefined);
    const patient = { nodeTimeout: NODE_TIMEOUT_MS };
    const three = new Redlock([client, ...clients.slice(1, 3)], { ...UNGUARDED, ...patient });
    const lock = await three.acquire(fresh(), 5000);
    const { votesAgainst } = await defined(lock.attempts[0]);
    expect(defined(votesAgainst.get(client)).message).toContain("LOADING");
    await lock.release();
    client.disconnect();
    await loading.close();
  });

  test("gives no password and no arguments away with its error", async () => {
    const odd = await startServer();
    await ask(odd.port, ["CONFIG", "SET", "maxmemory", "1"]);
    const client = new Redis(odd.port, "127.0.0.1");
    const alone = new Redlock([client], { nodeTimeout: NODE_TIMEOUT_MS });
    const error = await rejection(alone.acquire(fresh(), 5000, { retryCount: 0 }));
    const vote = defined((await defined(error.attempts[0])).votesAgainst.get(client));
    expect(vote.message).toContain("OOM");
    expect("command" in vote).toBe(false);
    client.disconnect();
    await odd.stop();
  });
});

describe("a node that accepts connections and says nothing", () => {
  test("costs nothing once it let one operation time out", async () => {
    const mute = await startStubbornServer();
    const three = new Redlock([mute.url, ...clients.slice(1, 3)], UNGUARDED);
    const start = performance.now();
    for (let pair = 0; pair < 20; pair++) {
      await (await three.acquire(fresh(), 60_000, { nodeTimeout: NODE_TIMEOUT_MS })).release();
    }
    expect(performance.now() - start).toBeLessThan(NODE_TIMEOUT_MS);
    await three[Symbol.asyncDispose]();
    await mute.close();
  });

  test("fails an acquire within its timeout where it is the majority, and then at once", async () => {
    const mute = await startStubbornServer();
    const alone = new Redlock([mute.url]);
    const error = await rejection(
      alone.acquire(fresh(), 5000, { retryCount: 0, nodeTimeout: 200 }),
    );
    expect(error.message).toContain("no answer in 200 ms");
    const start = performance.now();
    await rejection(
      alone.acquire(fresh(), 60_000, { retryCount: 0, nodeTimeout: NODE_TIMEOUT_MS }),
    );
    expect(performance.now() - start).toBeLessThan(NODE_TIMEOUT_MS);
    await alone.quit();
    await mute.close();
  });
});

describe("connections that died without a word", () => {
  test.each([
    ["ioredis 6", (port: number) => new Redis(port, "127.0.0.1", { socketTimeout: 500 })],
    ["ioredis 5", (port: number) => new Redis5(port, "127.0.0.1", { socketTimeout: 500 })],
  ])("of a caller's clients recover with the option socketTimeout: %s", async (_, connect) => {
    const proxies = await Promise.all(servers.slice(0, 3).map(({ port }) => startProxy(port)));
    const behind = proxies.map(({ port }) => {
      const client = connect(port);
      client.on("error", () => undefined);
      return client;
    });
    try {
      const some = new Redlock([...behind, ...clients.slice(3)], UNGUARDED);
      await (await some.acquire(fresh(), 5000)).release();
      for (const proxy of proxies) proxy.forget();
      const waiting = some.acquire(fresh(), 60_000, { acquireTimeout: 30_000 });
      await (await waiting).release();
    } finally {
      for (const client of behind) client.disconnect();
      await Promise.all(proxies.map((proxy) => proxy.close()));
    }
  });
});

describe("a node that was never connected yet", () => {
  test("is awaited: the first call of a new program works", async () => {
    const urls = servers.map(({ url }) => url);
    const own = new Redlock(urls, { nodeTimeout: NODE_TIMEOUT_MS });
    const lock = await own.acquire(fresh(), 60_000, { retryCount: 0 });
    expect(lock.valid).toBe(true);
    await lock.release();
    await own.quit();
  });

  test("is connected where the caller's client is lazy", async () => {
    const lazy = servers.map(({ port }) => new Redis(port, "127.0.0.1", { lazyConnect: true }));
    const patient = new Redlock(lazy, { nodeTimeout: NODE_TIMEOUT_MS });
    const lock = await patient.acquire(fresh(), 60_000, { retryCount: 0 });
    expect(lock.valid).toBe(true);
    await lock.release();
    disconnectAll(lazy);
  });

  test("votes against as soon as its connection is refused, not after its timeout", async () => {
    const gone = await startStubbornServer();
    await gone.close();
    const alone = new Redlock([gone.url]);
    const start = performance.now();
    const error = await rejection(
      alone.acquire(fresh(), 60_000, { retryCount: 0, nodeTimeout: NODE_TIMEOUT_MS }),
    );
    expect(performance.now() - start).toBeLessThan(NODE_TIMEOUT_MS);
    expect(error.message).toContain("ECONNREFUSED");
    await alone.quit();
  });
});

describe("an event loop that was blocked", () => {
  /** In a process for which this one waits, blocked, until every server holds the key and has said so. */
  function blockUntilHeld(resource: string): void {
    const script = `
      const net = require("node:net");
      for (const port of ${JSON.stringify(servers.map(({ port }) => port))}) {
        const socket = net.connect(port, "127.0.0.1");
        const ask = () => socket.write("EXISTS ${resource}\\r\\n");
        let isHeld = false;
        socket.on("data", (reply) => {
          // Before the second yes, what the server had to say to others was sent.
          if (isHeld) socket.destroy();
          else {
            isHeld = String(reply).startsWith(":1");
            setTimeout(ask, 5);
          }
        });
        ask();
      }`;
    execFileSync(process.execPath, ["--eval", script], {
      env: { ...process.env, NODE_OPTIONS: "" },
    });
  }

  // node-redis writes a command only in a later phase of the event loop, which a blocked one does not reach.
  const testIfWritten = isLikeIoredis ? test : test.skip;

  testIfWritten(
    "for longer than nodeTimeout does not time out the answers that already came",
    async () => {
      const nodeTimeout = 50;
      for (let round = 0; round < 5; round++) {
        const resource = fresh();
        const acquiring = redlock.acquire(resource, 60_000, { retryCount: 0, nodeTimeout });
        // Without a look at the sockets.
        while (!clients.every(({ sent }) => sent.some((line) => line.includes(resource)))) {
          await new Promise((resolve) => {
            process.nextTick(resolve);
          });
        }
        const end = performance.now() + 2 * nodeTimeout;
        blockUntilHeld(resource);
        while (performance.now() < end);
        const lock = await acquiring;
        expect((await defined(lock.attempts[0])).votesFor.size).toBe(5);
        await lock.release();
      }
    },
  );
});

describe("a slow node", () => {
  test("gets three times its recent round trip, and so votes", async () => {
    const proxy = await startProxy(defined(servers[0]).port);
    const slow = new Redlock([proxy.url]);
    await (await slow.acquire(fresh(), 5000)).release();
    proxy.replyDelayMs = 120;
    // 5 % of a ttl of 2 s is 100 ms: too short until the node's round trip is known.
    await until(
      async () => {
        const lock = await slow.acquire(fresh(), 2000, { retryCount: 0 }).catch(() => undefined);
        await lock?.release().catch(() => undefined);
        return lock !== undefined;
      },
      10_000,
      () => "the node never votes",
    );
    await slow.quit();
    await proxy.close();
  });
});

describe("the error event", () => {
  test("fires for each failed vote, and crashes nobody who does not listen", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 2), resource);
    const silent = new Redlock(clients, UNGUARDED);
    await (await silent.acquire(resource, 5000)).release();

    const heard: string[] = [];
    const listening = new Redlock(clients, UNGUARDED);
    listening.on("error", (error, node) => heard.push(`${String(node)} ${error.name}`));
    const lock = await listening.acquire(resource, 5000);
    await Promise.all(lock.attempts);
    await until(
      () => heard.length === 2,
      5000,
      () => heard.join(),
    );
    expect(heard.sort()).toEqual(
      servers
        .slice(0, 2)
        .map(({ port }) => `127.0.0.1:${port} ResourceLockedError`)
        .sort(),
    );
    await lock.release();
  });
});
