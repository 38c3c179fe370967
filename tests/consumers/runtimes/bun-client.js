// What the library's connections do with Bun's own Redis client, step by step, on real servers that it starts, kills
// and freezes. It runs in Bun only, prints one line for each step, and has to end by itself.
//
//   bun run bun-client.js SUPPORT      the folder tests/support of the repository

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { RedisClient } from "bun";
import { Redlock } from "redlock-quorum";

const [support] = process.argv.slice(2);
const { ask, freePorts, startServer, startServers, stopAll, until } = await import(
  join(support, "servers.ts")
);
const { certificateIn } = await import(join(support, "certificate.ts"));

// Long, so that a busy machine makes no node silent.
const TTL_MS = 60_000;
const LIMIT_MS = 20_000;
const servers = await startServers(3);
const SETTINGS = { nodeTimeout: 5000, retryCount: 0 };

const clientsOf = (some = servers, user = "", options = {}) =>
  some.map(({ port }) => new RedisClient(`redis://${user}127.0.0.1:${port}`, options));

async function rejection(promise) {
  const error = await promise.then(
    () => undefined,
    (reason) => reason,
  );
  assert(error !== undefined, "expected a rejection");
  return error;
}

const eventually = (condition, message) => until(condition, LIMIT_MS, () => message);

const valuesOf = (resource, some = servers) =>
  Promise.all(some.map(({ port }) => ask(port, ["GET", resource])));

const untilHeld = ({ resources: [resource], value }, some = servers) =>
  eventually(
    async () => (await valuesOf(resource, some)).every((found) => found === value),
    `${resource} is not held on every server`,
  );

/** Waits until each of these servers has voted: its connection is ready. */
async function reachAll(redlock, some) {
  const lock = await redlock.acquire("reached", TTL_MS);
  await untilHeld(lock, some);
  await lock.release();
}

/** Runs the action with a Redlock of these nodes, and closes it. */
async function withRedlock(nodes, settings, action) {
  const redlock = new Redlock(nodes, { ...SETTINGS, ...settings });
  try {
    return await action(redlock);
  } finally {
    await redlock.quit();
  }
}

async function withServer(action, options) {
  const server = await startServer(options);
  try {
    return await action(server);
  } finally {
    await server.stop();
  }
}

const votesAgainst = async ({ attempts }) => [...(await attempts.at(-1)).votesAgainst.values()];

const statistic = async (server, section, name) =>
  Number(new RegExp(`${name}[:=](\\d+)`).exec(await ask(server.port, ["INFO", section]))?.[1] ?? 0);

const steps = {
  "the client itself is left alone, whether it is connected or not": async () => {
    const clients = clientsOf();
    const onconnect = () => undefined;
    for (const client of clients) client.onconnect = onconnect;
    await clients[0].connect();
    await withRedlock(clients, {}, async (redlock) => {
      assert.deepEqual([...redlock.clients], clients);
      const lock = await redlock.acquire("alone", TTL_MS);
      await untilHeld(lock);
      await lock.release();
    });
    assert.deepEqual(
      clients.map(({ connected }) => connected),
      [true, false, false],
    );
    for (const client of clients) assert.equal(client.onconnect, onconnect);
    clients[0].close();
  },

  "the connections are closed by disposal, too": async () => {
    const before = await statistic(servers[0], "clients", "connected_clients");
    const redlock = new Redlock(clientsOf(), SETTINGS);
    await redlock.acquire("disposed", TTL_MS);
    assert.equal(await statistic(servers[0], "clients", "connected_clients"), before + 1);
    await redlock[Symbol.asyncDispose]();
    await eventually(
      async () => (await statistic(servers[0], "clients", "connected_clients")) === before,
      "a connection is left",
    );
  },

  "a node is named by the address that its server tells": () =>
    withRedlock(clientsOf(), {}, async (redlock) => {
      const names = async () => (await redlock.health()).map(({ node }) => node);
      await redlock.acquire("named", TTL_MS);
      await eventually(
        async () => String(await names()) === servers.map(({ port }) => `127.0.0.1:${port}`).join(),
        "the names are not those of the servers",
      );
    }),

  "health reads every report of a server": () =>
    withRedlock(clientsOf(), {}, async (redlock) => {
      for (const node of await redlock.health()) {
        assert.equal(node.reachable, true);
        assert.equal(node.role, "master");
        assert.equal(node.persistence, "none");
        assert.equal(node.evictionPolicy, "noeviction");
        assert.deepEqual(node.findings, []);
      }
    }),

  "operations of one turn are one command": () =>
    withRedlock(clientsOf(), {}, async (redlock) => {
      const names = Array.from({ length: 40 }, (_, index) => `turn:${index}`);
      const acquireAll = async () => {
        const locks = await Promise.all(names.map((name) => redlock.acquire(name, TTL_MS)));
        await Promise.all(locks.flatMap(({ attempts }) => attempts));
        return () => Promise.all(locks.map((lock) => lock.release()));
      };
      await (
        await acquireAll()
      )();
      const calls = () => statistic(servers[0], "commandstats", "cmdstat_evalsha:calls");
      const before = await calls();
      const release = await acquireAll();
      assert.equal((await calls()) - before, 1);
      await release();
    }),

  "clients of Bun and URLs can be mixed": () =>
    withRedlock(
      [...clientsOf(servers.slice(0, 1)), servers[1].url, servers[2].url],
      {},
      (redlock) => redlock.using("mixed", TTL_MS, { fencing: true }, (_, lock) => untilHeld(lock)),
    ),

  "an error of the server is told from a lost connection": async () => {
    for (const { port } of servers) {
      await ask(port, "ACL SETUSER mute on >password ~* &* +@all -evalsha -eval".split(" "));
    }
    await withRedlock(clientsOf(servers, "mute:password@"), {}, async (redlock) => {
      const lock = await redlock.acquire("mute", TTL_MS);
      await untilHeld(lock);
      const votes = await votesAgainst(await rejection(lock.extend(TTL_MS)));
      assert(votes.length >= 2);
      for (const vote of votes) {
        assert.equal(vote.name, "ReplyError");
        assert.match(vote.message, /^NOPERM/);
      }
    });
    for (const { port } of servers) await ask(port, ["DEL", "mute"]);
  },

  "a connection that is lost with a command in flight is a vote against": () =>
    withServer((own) =>
      withRedlock(clientsOf([...servers.slice(0, 2), own]), {}, async (redlock) => {
        await reachAll(redlock, [...servers.slice(0, 2), own]);
        await own.freeze();
        const { attempts } = await redlock.acquire("flight", TTL_MS);
        await own.kill();
        const votes = await votesAgainst({ attempts });
        assert.match(votes[0].message, /Connection closed/);
        assert.notEqual(votes[0].name, "ReplyError");
      }),
    ),

  "a server that restarted without its data is noticed, and held back": () =>
    withServer((own) =>
      withRedlock(clientsOf([...servers.slice(0, 2), own]), {}, async (redlock) => {
        await reachAll(redlock, [...servers.slice(0, 2), own]);
        await own.kill();
        await own.restart();
        await eventually(async () => {
          const lock = await redlock.acquire("restart", TTL_MS);
          const votes = await votesAgainst(lock);
          await lock.release();
          return votes.some(({ message }) => /restarted/.test(message));
        }, "the restart was not noticed");
      }),
    ),

  "a server that is down at first, for longer than its client tries, is reached later":
    async () => {
      const [port] = await freePorts(1);
      const [late] = clientsOf([{ port }], "", { maxRetries: 1 });
      await withRedlock([...clientsOf(servers.slice(0, 2)), late], {}, async (redlock) => {
        const lock = await redlock.acquire("late", TTL_MS);
        const [node] = (await redlock.health()).slice(2);
        assert.equal(node.reachable, false);
        // The client has given up by then.
        await new Promise((resolve) => setTimeout(resolve, 1500));
        await withServer((own) => untilHeld(lock, [...servers.slice(0, 2), own]), { port });
        await lock.release();
      });
    },

  "a connection that a server's end closed is made again, and the lock given to it": () =>
    withServer((own) => {
      const clients = clientsOf([...servers.slice(0, 2), own], "", { autoReconnect: false });
      return withRedlock(clients, { restartGuard: false }, async (redlock) => {
        const lock = await redlock.acquire("again", TTL_MS);
        await untilHeld(lock, [...servers.slice(0, 2), own]);
        await own.kill();
        await own.restart();
        await eventually(async () => {
          await lock.extend(TTL_MS);
          return (await ask(own.port, ["GET", "again"])) === lock.value;
        }, "the server did not get the key again");
        await lock.release();
      });
    }),

  "a silent connection is replaced": () =>
    withServer((own) =>
      withRedlock(
        clientsOf([...servers.slice(0, 2), own]),
        { nodeTimeout: 200 },
        async (redlock) => {
          await reachAll(redlock, [...servers.slice(0, 2), own]);
          const received = () => statistic(own, "stats", "total_connections_received");
          const before = await received();
          await own.freeze();
          const startMs = performance.now();
          while (performance.now() - startMs < 7000) {
            await (await redlock.acquire("silent", TTL_MS)).release();
            await new Promise((resolve) => setTimeout(resolve, 100));
          }
          own.thaw();
          // Its own two questions are two connections.
          await eventually(async () => (await received()) - before > 2, "no new connection");
          await eventually(async () => {
            const lock = await redlock.acquire("silent", TTL_MS);
            const { votesFor } = await lock.attempts[0];
            await lock.release();
            return votesFor.size === 3;
          }, "the node does not vote again");
        },
      ),
    ),

  "waiters are notified, also after their subscriptions were lost": async () => {
    const slow = { retryCount: -1, retryDelay: 50_000, retryJitter: 0 };
    await withRedlock(clientsOf(), {}, (holder) =>
      withRedlock(clientsOf(), slow, async (waiter) => {
        for (const loses of [false, true]) {
          const lock = await holder.acquire("notified", TTL_MS);
          const waiting = waiter.acquire("notified", TTL_MS);
          await eventually(async () => {
            const nodes = await holder.inspect("notified");
            return nodes.every(({ resources }) => resources[0].waiters.length === 1);
          }, "nobody waits");
          if (loses) {
            for (const { port } of servers) {
              assert.equal(await ask(port, ["CLIENT", "KILL", "TYPE", "pubsub"]), "1");
            }
            await eventually(async () => {
              const channels = servers.map(({ port }) =>
                statistic({ port }, "stats", "pubsub_channels"),
              );
              return (await Promise.all(channels)).every((count) => count === 1);
            }, "nobody subscribed again");
          }
          const startMs = performance.now();
          await lock.release();
          await (await waiting).release();
          assert(performance.now() - startMs < slow.retryDelay / 2);
        }
      }),
    );
    await eventually(async () => {
      const channels = servers.map(({ port }) => statistic({ port }, "stats", "pubsub_channels"));
      return (await Promise.all(channels)).every((count) => count === 0);
    }, "a subscription is left");
  },

  "waiters without the right to SUBSCRIBE poll, and one error says so": async () => {
    for (const { port } of servers) {
      await ask(port, "ACL SETUSER deaf on >password ~* &* +@all -subscribe".split(" "));
    }
    await withRedlock(clientsOf(servers, "deaf:password@"), { retryCount: -1 }, async (redlock) => {
      const reports = [];
      redlock.on("error", ({ message }) => message.includes("notify") && reports.push(message));
      const lock = await redlock.acquire("deaf", TTL_MS);
      const waiting = redlock.acquire("deaf", TTL_MS);
      await eventually(() => reports.length === 3, "no report");
      for (const message of reports) assert.match(message, /cannot notify .*NOPERM.*They poll/);
      await lock.release();
      await (await waiting).release();
    });
  },

  "the documented least rights are enough": async () => {
    const page = await readFile(join(support, "../../docs/operations.md"), "utf8");
    const line = /^`(ACL SETUSER .*)`$/m.exec(page)[1].split(" ");
    const rights = line.slice(line.indexOf(">password") + 1);
    for (const { port } of servers) {
      await ask(port, ["ACL", "SETUSER", "least", "on", ">password", ...rights]);
    }
    const settings = { keyPrefix: "lock:", retryCount: -1 };
    await withRedlock(clientsOf(servers, "least:password@"), settings, async (redlock) => {
      const lock = await redlock.acquire("least", TTL_MS, { fencing: true });
      const waiting = redlock.acquire("least", TTL_MS);
      await lock.extend(TTL_MS);
      await lock.release();
      await (await waiting).release();
      for (const { reachable, findings } of await redlock.health()) {
        assert.equal(reachable, true);
        assert.deepEqual(findings, []);
      }
    });
  },

  "TLS with a private CA and a client's certificate, a Unix socket, and another database":
    async () => {
      const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-bun-"));
      const { key, certificate } = await certificateIn(directory);
      const [port] = await freePorts(1);
      const path = join(directory, "redis.sock");
      // prettier-ignore
      const args = [
      "--tls-port", String(port), "--tls-cert-file", certificate, "--tls-key-file", key,
      "--tls-ca-cert-file", certificate, "--tls-auth-clients", "yes", "--unixsocket", path,
    ];
      const [keyText, text] = await Promise.all([
        readFile(key, "utf8"),
        readFile(certificate, "utf8"),
      ]);
      const tls = { ca: text, key: keyText, cert: text };
      await withServer(
        async (own) => {
          const clients = [
            [new RedisClient(`rediss://127.0.0.1:${port}`, { tls }), `127.0.0.1:${port}`],
            [new RedisClient(`redis+unix://${path}`), path],
            [new RedisClient(`${own.url}/3`), `127.0.0.1:${own.port}`],
          ];
          for (const [client, address] of clients) {
            await withRedlock([client], { retryCount: -1 }, async (redlock) => {
              const use = () => redlock.using("shared", TTL_MS, { fencing: true }, () => undefined);
              await Promise.all([use(), use()]);
              assert.equal((await redlock.health())[0].node, address);
            });
          }
          assert.match(await ask(own.port, ["INFO", "keyspace"]), /db3:/);
          const stranger = new RedisClient(`rediss://127.0.0.1:${port}`, { tls: { ca: text } });
          await withRedlock([stranger], { nodeTimeout: 1000 }, async (redlock) => {
            const error = await rejection(redlock.acquire("refused", TTL_MS));
            assert.equal(error.code, "ERR_REDLOCK_QUORUM");
          });
        },
        { args },
      );
      await rm(directory, { recursive: true });
    },
};

try {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`not ok ${name}`);
      console.error(error);
      process.exitCode = 1;
    }
  }
} finally {
  await stopAll(servers);
}
console.log("end");
