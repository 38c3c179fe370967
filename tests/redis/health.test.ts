import { describe, expect, test } from "@jest/globals";
import { Cluster, Redis } from "ioredis";
import { ask, type RedisServer, startRedisCluster, startServer } from "../support/servers.js";
import { type NodeHealth, Redlock, type RedlockSettings } from "../../src/index.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  type RecordingClient,
} from "../support/nodes.js";
import { documentedRights, hasChannelRules } from "../support/rights.js";
import { startProxy, startStubbornServer } from "../support/proxy.js";
import { testedServer } from "../support/tested-server.js";
import { useServersAndClients } from "../support/use-servers.js";

/** Long, so that a busy machine makes no node silent, and none slow. */
const NODE_TIMEOUT_MS = 5000;
/** What a call may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 3000;

const { servers, clients } = useServersAndClients(3, {
  args: ["--maxmemory-policy", "noeviction"],
});

async function healthOf(
  nodes: ConstructorParameters<typeof Redlock>[0],
  settings: RedlockSettings = {},
): Promise<NodeHealth[]> {
  await using redlock = new Redlock(nodes, { nodeTimeout: NODE_TIMEOUT_MS, ...settings });
  return await redlock.health();
}

/** The findings of the one node. */
async function findingsOf(
  entry: string | RecordingClient,
  settings?: RedlockSettings,
): Promise<readonly string[]> {
  const [node] = await healthOf([entry], settings);
  return defined(node).findings;
}

/** One server with these arguments, for the time of a test. */
async function withServer(
  args: readonly string[],
  use: (server: RedisServer) => Promise<void>,
): Promise<void> {
  const server = await startServer({ args });
  try {
    await use(server);
  } finally {
    await server.stop();
  }
}

/** How many changes the server has made to its data since it started. */
async function writesOn({ port }: RedisServer): Promise<string | undefined> {
  const info = await ask(port, ["INFO", "persistence"]);
  return /rdb_changes_since_last_save:(\d+)/.exec(info)?.[1];
}

describe("health", () => {
  test("tells of each node how it is, and finds nothing where all is well", async () => {
    // On a busy machine any round trip may take a while.
    const nodes = await healthOf(clients, { nodeTimeout: 60_000 });
    const { name, version } = testedServer;
    expect(nodes.map(({ node }) => node)).toEqual(servers.map(({ port }) => `127.0.0.1:${port}`));
    for (const [index, node] of nodes.entries()) {
      const info = await defined(clients[index]).info("server");
      expect(node).toMatchObject({ reachable: true, role: "master", findings: [] });
      expect(node.version).toBe(name === "Redis" ? version : `Valkey ${version}`);
      expect(info).toContain(`run_id:${defined(node.runId)}\r\n`);
      expect(defined(node.latencyMs)).toBeGreaterThan(0);
      expect(Math.abs(defined(node.clockOffsetMs))).toBeLessThan(1000);
      expect(defined(node.uptimeMs)).toBeGreaterThanOrEqual(0);
      expect(node).toMatchObject({ persistence: "none", evictionPolicy: "noeviction" });
      expect(node).not.toHaveProperty("error");
      expect(node).not.toHaveProperty("heldBackUntil");
    }
    expect(JSON.parse(JSON.stringify(nodes))).toEqual(nodes);
  });

  test("writes nothing and asks no CONFIG SET, under a right to read keys of nobody", async () => {
    const sentBefore = clients.map(({ sent }) => sent.length);
    const writesBefore = await Promise.all(servers.map(writesOn));
    await healthOf(clients);
    expect(await Promise.all(servers.map(writesOn))).toEqual(writesBefore);
    for (const [index, { sent }] of clients.entries()) {
      const commands = sent.slice(sentBefore[index]).map((line) => line.replace(/ .*/s, ""));
      expect(new Set(commands)).toEqual(
        new Set(["time", "info", "config", "script", "eval", "evalsha", "publish"]),
      );
      expect(sent.some((line) => /config set/i.test(line))).toBe(false);
    }
  });

  test("deletes no lock, whatever its name", async () => {
    const redlock = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS });
    const locks = await Promise.all(
      ["health", "{health}", "redlock:health"].map((name) => redlock.acquire(name, 60_000)),
    );
    await redlock.health();
    for (const lock of locks) {
      await lock.extend(60_000);
      await lock.release();
    }
  });

  test("asks all at once", async () => {
    const proxy = await startProxy(defined(servers[0]).port);
    try {
      const redlock = new Redlock([proxy.url], { nodeTimeout: NODE_TIMEOUT_MS });
      await redlock.health();
      proxy.replyDelayMs = 300;
      const start = performance.now();
      const [node] = await redlock.health();
      const tookMs = performance.now() - start;
      expect(defined(defined(node).latencyMs)).toBeGreaterThanOrEqual(290);
      // A subscription takes two round trips; seven commands, one after the other, would take seven.
      expect(tookMs).toBeLessThan(2000);
      await redlock.quit();
    } finally {
      await proxy.close();
    }
  });

  test.each([
    [["--appendonly", "yes", "--appendfsync", "always"], "append-only file, fsync always", true],
    [["--appendonly", "yes"], "append-only file, fsync everysec", false],
    [["--save", "3600", "1"], "snapshots", false],
    [[], "none", false],
  ])("tells of %j that its persistence is: %s", async (args, persistence, isSafe) => {
    await withServer(args, async ({ url }) => {
      const [guarded] = await healthOf([url]);
      expect(guarded).toMatchObject({ persistence, findings: [] });
      const [unguarded] = await healthOf([url], { restartGuard: false });
      expect(defined(unguarded).findings).toEqual(
        isSafe
          ? []
          : [
              `may forget locks when it restarts (persistence: ${persistence}), and restartGuard is false`,
            ],
      );
    });
  });

  test("finds two entries that are one server", async () => {
    const [first, second] = servers;
    const nodes = await healthOf([
      defined(first).url,
      defined(second).url,
      `redis://localhost:${defined(first).port}`,
    ]);
    expect(defined(nodes[0]).findings).toEqual([
      expect.stringContaining(`is the same server as localhost:${defined(first).port}`),
    ]);
    expect(defined(nodes[1]).findings).toEqual([]);
    expect(defined(nodes[2]).findings).toEqual([
      expect.stringContaining(`is the same server as 127.0.0.1:${defined(first).port}`),
    ]);
  });

  test("says of each finding what to do, and whether it endangers the exclusion", async () => {
    const url = `redis://localhost:${defined(servers[0]).port}`;
    const nodes = await healthOf([
      defined(servers[0]).url,
      url,
      "redis://127.0.0.1:1",
      defined(servers[1]).url,
    ]);
    const problems = nodes.flatMap((node) => {
      expect(node.problems.map(({ finding }) => finding)).toEqual(node.findings);
      return node.problems.map(({ remedy, endangersExclusion }) => [remedy, endangersExclusion]);
    });
    expect(problems).toEqual([
      ["Name each server once.", true],
      ["Name each server once.", true],
      [expect.stringContaining("Start the server"), false],
      [expect.stringContaining("Use an odd number of nodes"), false],
    ]);
  });

  test("finds a replica", async () => {
    const { port } = defined(servers[0]);
    await withServer(["--replicaof", "127.0.0.1", String(port)], async ({ url }) => {
      const [node] = await healthOf([url]);
      expect(defined(node).role).toBe("replica");
      expect(defined(node).findings).toEqual([expect.stringContaining("is a replica")]);
    });
  });

  test("finds an eviction policy that may evict locks", async () => {
    await withServer(["--maxmemory-policy", "allkeys-lru"], async ({ url }) => {
      const [node] = await healthOf([url]);
      expect(defined(node).evictionPolicy).toBe("allkeys-lru");
      expect(defined(node).findings).toEqual([
        "may evict locks that are held (maxmemory-policy allkeys-lru): set noeviction",
      ]);
    });
  });

  test("finds an even number of nodes, once", async () => {
    const nodes = await healthOf(clients.slice(0, 2));
    expect(defined(nodes[0]).findings).toEqual([]);
    expect(defined(nodes[1]).findings).toEqual([
      "makes the number of nodes even: 2 nodes survive no more failures than 1",
    ]);
  });

  test("finds a round trip above a tenth of nodeTimeout", async () => {
    const proxy = await startProxy(defined(servers[0]).port);
    try {
      const redlock = new Redlock([proxy.url], { nodeTimeout: 8000 });
      await redlock.health();
      proxy.replyDelayMs = 850;
      const [node] = await redlock.health();
      expect(defined(node).findings).toEqual([
        expect.stringMatching(
          /^is slow: a round trip took (\d+ ms|\d+\.\d s), above a tenth of nodeTimeout \(8\.0 s\)$/,
        ),
      ]);
      await redlock.quit();
    } finally {
      await proxy.close();
    }
  });

  test("does not call a subscription refused that takes longer than it may", async () => {
    const proxy = await startProxy(defined(servers[0]).port);
    try {
      await using redlock = new Redlock([proxy.url], { nodeTimeout: 6000 });
      await redlock.health();
      // A subscriber's connection asks INFO, and then subscribes: more than half of nodeTimeout.
      proxy.replyDelayMs = 1600;
      const [node] = await redlock.health();
      expect(defined(node).findings).toEqual([
        expect.stringMatching(/^is slow: /),
        "did not confirm SUBSCRIBE in time (no answer in 3.0 s): whether it can notify waiters is unknown",
      ]);
    } finally {
      await proxy.close();
    }
  });

  test("tries no channels where nobody is to wait in line", async () => {
    for (const client of clients) client.sent = [];
    await healthOf(clients, { queue: false });
    const sent = clients.flatMap((client) => client.sent);
    expect(sent.length).toBeGreaterThan(0);
    expect(sent.filter((line) => /publish/i.test(line))).toEqual([]);
  });

  /** Three nodes, the last with these words in place of its server's; an equal number of bytes. */
  async function nodesWith(
    rewrite: (reply: string) => string,
    settings?: RedlockSettings,
  ): Promise<NodeHealth[]> {
    const proxy = await startProxy(defined(servers[2]).port);
    proxy.rewrite = rewrite;
    try {
      return await healthOf([...clients.slice(0, 2), proxy.url], settings);
    } finally {
      await proxy.close();
    }
  }

  async function healthWith(
    rewrite: (reply: string) => string,
    settings?: RedlockSettings,
  ): Promise<readonly (readonly string[])[]> {
    return (await nodesWith(rewrite, settings)).map(({ findings }) => findings);
  }

  /** A server's reply to TIME, by a clock that is ahead. */
  const ahead = (byS: number) => (reply: string) =>
    reply.replace(
      /^(\*2\r\n\$10\r\n)(\d{10})(?=\r\n\$\d\r\n\d+\r\n)/m,
      (_, head: string, seconds: string) => `${head}${Number(seconds) + byS}`,
    );

  // On a busy machine the offset is off by up to half the round trip.
  test.each([
    [
      5,
      /^has a clock (\d+\.\d) s ahead of the nodes' median, above the drift allowance of 102 ms\. If it was set forward, the locks that it held then expired early\. Let NTP slew the servers' clocks$/,
    ],
    [
      -15,
      /^has a clock (\d+\.\d) s behind the nodes' median, above the drift allowance of 102 ms\. If it was set back, the locks that it held then, also of holders that have died, last that much longer\. Let NTP slew the servers' clocks$/,
    ],
  ])(
    "finds a clock that is off by %d s, and says what that does to locks",
    async (byS, finding) => {
      const nodes = await nodesWith(ahead(byS));
      expect(nodes.map(({ findings }) => findings)).toEqual([
        [],
        [],
        [expect.stringMatching(finding)],
      ]);
      const offByS = Number(finding.exec(defined(nodes[2]?.findings[0]))?.[1]);
      // Its own half, that of the node in the middle, and what rounding to a tenth of a second adds.
      const slowestMs = Math.max(...nodes.map(({ latencyMs }) => defined(latencyMs)));
      expect(Math.abs(offByS - Math.abs(byS))).toBeLessThanOrEqual(slowestMs / 1000 + 0.051);
    },
  );

  test("holds clocks against the drift allowance of the longest ttl in use", async () => {
    const proxy = await startProxy(defined(servers[2]).port);
    proxy.rewrite = ahead(5);
    const nodes = [...clients.slice(0, 2), proxy.url];
    await using redlock = new Redlock(nodes, { nodeTimeout: NODE_TIMEOUT_MS });
    try {
      await (await redlock.acquire(fresh(), 10_000_000)).release();
      expect((await redlock.health()).map(({ findings }) => findings)).toEqual([[], [], []]);
    } finally {
      await proxy.close();
    }
  });

  test("finds a server that is too old for the scripts", async () => {
    // Of the same length: a reply says how long it is. Valkey gives its own version beside that of Redis.
    const named = (reply: string): string => reply.replaceAll("valkey_version", "former_version");
    const old = (reply: string): string =>
      named(reply).replace(/redis_version:\d/g, "redis_version:4");
    expect(await healthWith(old)).toEqual([
      [],
      [],
      [expect.stringMatching(/^is too old: the scripts need Redis 5\.0, it has 4\./)],
    ]);
    const justNew = (reply: string): string =>
      named(reply).replace(/redis_version:\d\.\d/g, "redis_version:5.0");
    expect(await healthWith(justNew)).toEqual([[], [], []]);
  });

  test.each([
    ["-info", "INFO", { version: null, role: null, runId: null, evictionPolicy: null }],
    ["-config", "CONFIG GET", { persistence: null, role: "master" }],
    ["-time", "TIME", { clockOffsetMs: null, role: "master" }],
    ["-eval", "EVAL", { role: "master" }],
    ["-evalsha", "EVALSHA", { role: "master" }],
    ["-publish", "PUBLISH", { role: "master" }],
    ["-subscribe", "SUBSCRIBE", { role: "master" }],
    ["-script", "SCRIPT LOAD", { role: "master" }],
  ])("says of an ACL with %s that %s is refused, and tells the rest", async (rule, what, rest) => {
    await withServer([], async ({ port, url }) => {
      await ask(port, ["ACL", "SETUSER", "default", rule]);
      const [node] = await healthOf([url]);
      expect(node).toMatchObject({ reachable: true, ...rest });
      expect(defined(node).findings).toEqual([
        expect.stringMatching(new RegExp(`^refuses ${what} \\(NOPERM .*\\): `)),
      ]);
    });
  });

  test.each([
    ["set", /no lock can be acquired/],
    ["get", /no lock can be extended or released/],
    ["del", /no lock can be released/],
    ["exists", /no lock on several resources can be acquired/],
    ["pexpire", /no lock can be extended/],
    ["pttl", /no lock can be extended/],
    ["type", /inspect\(\)/],
    ["zadd", /notify waiters/],
    ["zrange", /notify waiters/],
    ["zrank", /notify waiters/],
    ["zrem", /notify waiters/],
    ["hset", /notify waiters/],
    ["hget", /notify waiters/],
    ["hdel", /notify waiters/],
  ])("says that %s is refused inside of scripts, and what that means", async (command, meaning) => {
    await withServer([], async ({ port, url }) => {
      await ask(port, ["ACL", "SETUSER", "default", `-${command}`]);
      const findings = await findingsOf(url);
      expect(findings).toEqual([
        expect.stringMatching(new RegExp(`^refuses ${command.toUpperCase()} \\(.*\\): `)),
      ]);
      expect(findings[0]).toMatch(meaning);
    });
  });

  test("finds nothing where the user has the rights that docs/operations.md names, and no other", async () => {
    await withServer([], async ({ port }) => {
      const user = ["limited", "on", ">secret", ...documentedRights];
      await ask(port, ["ACL", "SETUSER", ...user]);
      expect(await findingsOf(`redis://limited:secret@127.0.0.1:${port}`)).toEqual([]);
    });
  });

  test("says that a command that was renamed is refused", async () => {
    await withServer(["--rename-command", "PEXPIRE", ""], async ({ url }) => {
      expect(await findingsOf(url)).toEqual([expect.stringMatching(/^refuses PEXPIRE \(/)]);
    });
  });

  test("says nothing of the commands of the line where nobody is to wait in it", async () => {
    await withServer([], async ({ port, url }) => {
      await ask(port, ["ACL", "SETUSER", "default", "-@sortedset", "-@hash"]);
      expect(await findingsOf(url, { queue: false })).toEqual([]);
    });
  });

  // Redis 6.0 has no rules for channels.
  (hasChannelRules ? test : test.skip).each([
    ["&redlock:*", []],
    [
      "&other:*",
      [
        expect.stringMatching(/^refuses PUBLISH \(NOPERM .*\): it cannot notify waiters/),
        expect.stringMatching(/^refuses SUBSCRIBE \(NOPERM .*\): it cannot notify waiters/),
      ],
    ],
  ])(
    "tries the channels by which waiters are woken, with the right to %s",
    async (channels, all) => {
      await withServer([], async ({ port, url }) => {
        await ask(port, ["ACL", "SETUSER", "default", "resetchannels", channels]);
        expect(await findingsOf(url)).toEqual(all);
      });
    },
  );

  test("says of a Cluster client that the restart guard does not cover it", async () => {
    const cluster = await startRedisCluster();
    const client = new Cluster([{ host: "127.0.0.1", port: defined(cluster.servers[0]).port }]);
    try {
      const redlock = new Redlock([client], { nodeTimeout: NODE_TIMEOUT_MS });
      const [node] = await redlock.health();
      expect(node).toMatchObject({ reachable: true, role: "master" });
      expect(defined(node).findings).toEqual([
        expect.stringMatching(/^is a Cluster client: .* the restart guard does not cover them$/),
      ]);
    } finally {
      client.disconnect();
      await cluster.stop();
    }
  });

  test("says of a server without a run id that the guard cannot see behind it", async () => {
    const proxy = await startStubbornServer("+OK");
    try {
      const client = (await connectAll([proxy]))[0];
      expect(await findingsOf(defined(client))).toContainEqual(
        expect.stringContaining("does not tell its run id, as if behind a proxy"),
      );
      disconnectAll([defined(client)]);
    } finally {
      await proxy.close();
    }
  });

  test("says of a node that is down that it cannot be reached, and why", async () => {
    const gone = await startServer();
    await gone.stop();
    const nodes = await healthOf([gone.url, ...clients.slice(1)]);
    expect(nodes.map(({ reachable }) => reachable)).toEqual([false, true, true]);
    expect(defined(nodes[0])).toMatchObject({
      error: { code: "ERR_REDLOCK_NODE_DOWN" },
      latencyMs: null,
      findings: ["cannot be reached: ECONNREFUSED"],
    });
  });

  test("waits for a node that hangs no longer than 250 ms without another nodeTimeout", async () => {
    const hung = await startServer();
    const [client] = await connectAll([hung]);
    await hung.freeze();
    try {
      const redlock = new Redlock([defined(client), ...clients.slice(1)]);
      const start = performance.now();
      const [node, ...others] = await redlock.health();
      const tookMs = performance.now() - start;
      expect(tookMs).toBeGreaterThan(200);
      expect(tookMs).toBeLessThan(250 + MARGIN_MS);
      expect(node).toMatchObject({
        reachable: false,
        error: { code: "ERR_REDLOCK_NODE_TIMEOUT" },
        findings: [
          "cannot be reached: no answer in 250 ms",
          "has a client that never replaces a silent connection: set the client's option socketTimeout, such as 5000 ms",
        ],
      });
      expect(others.map(({ reachable }) => reachable)).toEqual([true, true]);
    } finally {
      disconnectAll([defined(client)]);
      await hung.stop();
    }
  });

  test("asks for no socketTimeout where the client has one, or is the library's own", async () => {
    const mute = await startStubbornServer();
    const client = new Redis(mute.port, "127.0.0.1", { socketTimeout: 60_000 });
    try {
      for (const entry of [client, mute.url]) {
        const [node] = await healthOf([entry], { nodeTimeout: 100 });
        expect(defined(node).findings).toEqual(["cannot be reached: no answer in 100 ms"]);
      }
    } finally {
      client.disconnect();
      await mute.close();
    }
  });

  test("says until when a node is held back", async () => {
    await withServer([], async (server) => {
      const redlock = new Redlock([server.url], {
        nodeTimeout: NODE_TIMEOUT_MS,
        restartGuard: 60_000,
      });
      await redlock.acquire(fresh(), 1000, { retryCount: 0 }).catch(() => undefined);
      const [node] = await redlock.health();
      expect(defined(defined(node).heldBackUntil) - Date.now()).toBeGreaterThan(50_000);
      expect(defined(defined(node).heldBackUntil) - Date.now()).toBeLessThanOrEqual(60_000);
      expect(defined(node).findings).toEqual([
        expect.stringMatching(
          /^is held back: it started .* ago: its votes count again in \d+\.\d s$/,
        ),
      ]);
      await redlock.quit();
    });
  });

  test("rejects once the Redlock is closed", async () => {
    const redlock = new Redlock([defined(servers[0]).url]);
    await redlock.quit();
    await expect(redlock.health()).rejects.toMatchObject({ code: "ERR_REDLOCK_CLOSED" });
  });
});
