import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { Cluster, Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ask,
  type RedisCluster,
  type RedisServer,
  slowness,
  startRedisCluster,
  until,
} from "../support/servers.js";
import { type NodeEntry, Redlock } from "../../src/index.js";
import { isLikeIoredis } from "../support/clients.js";
import { startClusterOfOne } from "../support/cluster-mode.js";
import { cacheQueueScripts, listenersOn, Turns, untilWaiting } from "../support/line.js";
import {
  addStatus,
  connectAll,
  defined,
  disconnectAll,
  fresh,
  type RecordingClient,
} from "../support/nodes.js";
import { type Proxy, startProxy } from "../support/proxy.js";
import { hasChannelRules, rulesThatExist } from "../support/rights.js";
import { useServers } from "../support/use-servers.js";

// Where there is no line, or nobody can be called, waiting is by timer: slower, and never less safe.

const NODES = 3;
const TURNS = 5;
const SETTINGS = { nodeTimeout: 5000, retryCount: -1, retryDelay: 20, retryJitter: 10 };

/** A user with these rules reaches no channel. */
const NO_CHANNELS = hasChannelRules ? ["resetchannels"] : ["-publish", "-subscribe"];

const servers = useServers(NODES);

beforeAll(() => cacheQueueScripts(servers));

interface Heard {
  /** Votes of a node that the resource is held. */
  held: number;
  /** What else a Redlock says. */
  readonly complaints: string[];
}

function listenTo(redlock: Redlock): Heard {
  const heard: Heard = { held: 0, complaints: [] };
  redlock.on("error", (error: Error) => {
    if (error.name === "ResourceLockedError") heard.held += 1;
    else heard.complaints.push(error.message);
  });
  return heard;
}

/** Three Redlocks wait for the first turn together, and take turns then. Gives what each complains of. */
async function takeTurns(
  nodesOf: () => Iterable<NodeEntry>,
  resource: string = fresh(),
  complaintsOfEach = NODES,
): Promise<string[][]> {
  const redlocks = Array.from({ length: 3 }, () => new Redlock(nodesOf(), SETTINGS));
  const heard = redlocks.map(listenTo);
  try {
    for (const redlock of redlocks) await redlock.inspect(resource);
    const first = await defined(redlocks[0]).acquire(resource, 30_000);
    const turns = new Turns<number>();
    const all = redlocks.map(async (redlock, index) => {
      for (let turn = 0; turn < TURNS; turn++) {
        await turns.take(index, await redlock.acquire(resource, 30_000), () => sleep(5));
      }
    });
    // A busy machine may take long to open subscriptions, and nobody joins the queue before that.
    await until(
      () =>
        heard.every(
          ({ held, complaints: { length } }) => held > 3 * NODES && length >= complaintsOfEach,
        ),
      10_000,
      () => "not everybody polls, and has complained of what is missing",
    );
    await first.release();
    await Promise.all(all);
    expect(turns.order).toHaveLength(3 * TURNS);
    expect(turns.mostAtOnce).toBe(1);
    return heard.map(({ complaints }) => complaints);
  } finally {
    await Promise.all(redlocks.map((redlock) => redlock.quit()));
  }
}

async function users(name: string, ...rules: string[]): Promise<string[]> {
  const command = ["ACL", "SETUSER", name, "on", ">secret", "+@all", ...rulesThatExist(rules)];
  await Promise.all(servers.map(({ port }) => ask(port, command)));
  return servers.map(({ port }) => `redis://${name}:secret@127.0.0.1:${port}`);
}

/** Each of the three complains once of each node. */
function expectOneOfEachNode(complaints: readonly string[][], text: RegExp): void {
  expect(complaints.map(({ length }) => length)).toEqual([NODES, NODES, NODES]);
  for (const complaint of complaints.flat()) expect(complaint).toMatch(text);
  for (const own of complaints) {
    for (const { port } of servers) {
      expect(own.filter((complaint) => complaint.includes(`127.0.0.1:${port}`))).toHaveLength(1);
    }
  }
}

describe("waiters take their turns, and one `error` event for each node says what is missing,", () => {
  test("where a user may not subscribe and publish", async () => {
    const urls = await users("mute", "~*", ...NO_CHANNELS);
    const complaints = await takeTurns(() => urls);
    expectOneOfEachNode(complaints, /cannot notify callers .*NOPERM.*SUBSCRIBE and PUBLISH/s);
  });

  test("where a user may subscribe, but not publish", async () => {
    const urls = await users("silent", "~*", "&*", "-publish");
    const complaints = await takeTurns(() => urls);
    expectOneOfEachNode(complaints, /cannot notify callers .*NOPERM.*SUBSCRIBE and PUBLISH/s);
  });

  const throwing = (): never => {
    throw new Error("no further connection");
  };

  test.each([
    ["cannot be duplicated", undefined, /cannot notify callers .*its client cannot subscribe/],
    ["throws when it is duplicated", throwing, /cannot notify callers .*no further connection/],
  ])("where a client %s", async (_, duplicate, text) => {
    const clients: RecordingClient[] = [];
    const all = await Promise.all(Array.from({ length: 3 }, () => connectAll(servers)));
    const complaints = await takeTurns(() => {
      const own = all[clients.length / NODES] ?? [];
      clients.push(...own);
      return own.map((client) => Object.assign(client, { duplicate }));
    });
    disconnectAll(clients);
    expectOneOfEachNode(complaints, text);
  });

  test("where a user may not touch the keys of a line", async () => {
    const urls = await users("narrow", "~locks:*", "&*");
    const complaints = await takeTurns(() => urls, `locks:${fresh()}`);
    expectOneOfEachNode(complaints, /cannot join the queue on .*NOPERM/);
  });
});

test("leaders take turns where a user may not touch the keys of a line", async () => {
  const urls = await users("narrow", "~locks:*", "&*");
  const redlocks = [new Redlock(urls, SETTINGS), new Redlock(urls, SETTINGS)];
  const name = `locks:${fresh()}`;
  const leaders = new Set<number>();
  const resign = new AbortController();
  const late = setTimeout(() => {
    resign.abort();
  }, 10_000 * slowness());
  const settings = { maxHold: 50, signal: resign.signal };
  const leading = redlocks.map((redlock, index) =>
    redlock.lead(name, 10_000, settings, async (signal) => {
      leaders.add(index);
      if (leaders.size === 2) resign.abort();
      await sleep(10_000, undefined, { signal });
    }),
  );
  await Promise.all(leading);
  clearTimeout(late);
  await Promise.all(redlocks.map((redlock) => redlock.quit()));
  expect(leaders.size).toBe(2);
});

test("what is missing is said once of a node, also to those who wait after a long pause", async () => {
  const clients = await connectAll(servers);
  Object.assign(defined(clients[0]), { duplicate: undefined });
  const redlock = new Redlock(clients, SETTINGS);
  const { complaints } = listenTo(redlock);
  const waitOnce = async (): Promise<void> => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 30_000);
    const next = redlock.acquire(resource, 30_000);
    await untilWaiting(redlock, resource, 1);
    await lock.release();
    await (await next).release();
  };
  try {
    await waitOnce();
    // Subscriptions are closed then, and all nodes are tried again by who waits next.
    await until(
      async () => (await Promise.all(servers.map(listenersOn))).every((count) => count === 0),
      10_000,
      () => "a subscription is left",
    );
    await waitOnce();
    expect(complaints).toHaveLength(1);
  } finally {
    disconnectAll(clients);
  }
});

test("who may not publish calls nobody, and those who wait in line are served all the same", async () => {
  const urls = await users("quiet", "~*", ...NO_CHANNELS);
  const quiet = new Redlock(urls, SETTINGS);
  const loud = new Redlock(
    servers.map(({ url }) => url),
    SETTINGS,
  );
  const turns = new Turns<Redlock>();
  await Promise.all(
    [quiet, loud, quiet, loud].map(async (redlock) => {
      const resource = "quiet and loud";
      for (let turn = 0; turn < TURNS; turn++) {
        await turns.take(redlock, await redlock.acquire(resource, 30_000), () => sleep(2));
      }
    }),
  );
  expect(turns.order).toHaveLength(4 * TURNS);
  expect(turns.mostAtOnce).toBe(1);
  await Promise.all([quiet.quit(), loud.quit()]);
});

describe("a waiter whose subscriptions go through a network that", () => {
  const NO_RETRY = { nodeTimeout: 5000, retryCount: -1, retryDelay: 500_000, retryJitter: 0 };
  let proxies: Proxy[];
  let subscribers: RecordingClient[];
  let clients: RecordingClient[];
  let waiter: Redlock;
  let holder: Redlock;
  let heard: Heard;

  beforeEach(async () => {
    proxies = await Promise.all(servers.map(({ port }) => startProxy(port)));
    subscribers = [];
    clients = await connectAll([...servers, ...servers]);
    for (const [index, proxy] of proxies.entries()) {
      const client = defined(clients[index]);
      const duplicated = client.duplicate.bind(client) as (options: object) => RecordingClient;
      const duplicate = (options: object): RecordingClient => {
        const address = { host: "127.0.0.1", port: proxy.port };
        // As a client of a URL: what is lost with a connection fails.
        const own = { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 };
        const subscriber = duplicated(
          isLikeIoredis ? { ...options, ...own, ...address } : { socket: address },
        );
        if (!isLikeIoredis) addStatus(subscriber);
        subscriber.on("error", () => undefined);
        subscribers.push(subscriber);
        return subscriber;
      };
      Object.assign(client, { duplicate });
    }
    waiter = new Redlock(clients.slice(0, NODES), NO_RETRY);
    holder = new Redlock(clients.slice(NODES), NO_RETRY);
    heard = listenTo(waiter);
  });

  afterEach(async () => {
    disconnectAll(clients);
    await until(
      // One that was about to reconnect stays so, but does not.
      () => subscribers.every(({ status }) => status === "end" || status === "reconnecting"),
      10_000,
      () => `subscribers are ${subscribers.map(({ status }) => status).join(", ")}`,
    );
    await Promise.all(proxies.map((proxy) => proxy.close()));
  });

  /** Waits until a quorum of the nodes has a channel by which to call who is first in line, or, for who polls, has none. */
  async function untilStanding(resource: string, how: "called" | "polling"): Promise<void> {
    const script = "return redis.call('HVALS', KEYS[1])[1] or ''";
    const isThere = async ({ port }: RedisServer): Promise<boolean> => {
      const said = await ask(port, ["EVAL", script, "1", `{${resource}}:redlock:alive`]);
      return said !== "" && said.includes("redlock:") === (how === "called");
    };
    await until(
      async () => {
        const there = await Promise.all(servers.map(isThere));
        return there.filter(Boolean).length > NODES / 2;
      },
      20_000,
      () => `nobody stands in line as one who is ${how}`,
    );
  }

  test("resets them while they are made is called once they are made again", async () => {
    const resource = fresh();
    const lock = await holder.acquire(resource, 60_000);
    // The confirmation is on its way when the connection is reset.
    for (const proxy of proxies) {
      proxy.rewrite = (reply) => {
        if (!reply.includes("subscribe")) return reply;
        proxy.rewrite = (later) => later;
        setImmediate(() => {
          proxy.cut();
        });
        return "";
      };
    }
    const next = waiter.acquire(resource, 60_000);
    await untilWaiting(holder, resource, 1);
    await untilStanding(resource, "called");
    expect(heard.complaints).toEqual([]);
    await lock.release();
    await (await next).release();
  });

  test("forgets them has the lock all the same, and is called again soon", async () => {
    const resource = fresh();
    const lock = await holder.acquire(resource, 60_000);
    const next = waiter.acquire(resource, 60_000);
    await untilStanding(resource, "called");
    for (const proxy of proxies) proxy.forget();
    await lock.release();
    // By no retry timer.
    const held = await next;
    await held.release();

    const again = await holder.acquire(resource, 60_000);
    const later = waiter.acquire(resource, 60_000);
    await untilStanding(resource, "called");
    expect(heard.complaints).toEqual([]);
    await again.release();
    await (await later).release();
  });

  test("lets nothing through any more polls", async () => {
    const resource = fresh();
    const lock = await holder.acquire(resource, 60_000);
    const next = waiter.acquire(resource, 60_000);
    await untilStanding(resource, "called");
    for (const proxy of proxies) {
      proxy.forget();
      proxy.swallowing = true;
    }
    await untilStanding(resource, "polling");
    await lock.release();
    await (await next).release();
    expect(heard.complaints).toEqual([]);
  });
});

test("a resource whose braces are no hash tag has no line, which one `error` event says", async () => {
  const complaints = await takeTurns(() => servers.map(({ url }) => url), `${fresh()}{}`, 1);
  expect(complaints.map(({ length }) => length)).toEqual([1, 1, 1]);
  for (const complaint of complaints.flat()) {
    expect(complaint).toMatch(/There can be no queue for .*\{\}.*its braces are not a hash tag/);
  }
});

describe("on a Redis Cluster", () => {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startRedisCluster();
  });

  afterAll(async () => {
    await cluster.stop();
  });

  test("waiters stand in line and poll, and one `error` event says so", async () => {
    const seeds = cluster.servers.map(({ port }) => ({ host: "127.0.0.1", port }));
    const complaints = await takeTurns(() => [new Cluster(seeds)], fresh(), 1);
    expect(complaints.map(({ length }) => length)).toEqual([1, 1, 1]);
    for (const complaint of complaints.flat()) {
      expect(complaint).toMatch(/cluster .* cannot notify callers .*its client cannot subscribe/);
    }
  });
});

test("a client's own key prefix, on a server in cluster mode, leaves a lock without a line", async () => {
  const server = await startClusterOfOne();
  try {
    const connect = (): Redis[] => [new Redis(server.port, "127.0.0.1", { keyPrefix: "app:" })];
    const complaints = await takeTurns(connect, fresh(), 1);
    expect(complaints.map(({ length }) => length)).toEqual([1, 1, 1]);
    for (const complaint of complaints.flat()) {
      expect(complaint).toMatch(/cannot join the queue on .*CROSSSLOT/);
    }
  } finally {
    await server.stop();
  }
});
