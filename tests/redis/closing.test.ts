import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  jest,
  test,
} from "@jest/globals";
import { Cluster, Redis } from "ioredis";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { inspect, types } from "node:util";
import {
  ask,
  freePorts,
  type RedisServer,
  slowness,
  startServer,
  stopAll,
  until,
} from "../support/servers.js";
import {
  type ExecutionError,
  type Lock,
  type NodeEntry,
  Redlock,
  type RedlockSettings,
} from "../../src/index.js";
import { cacheQueueScripts } from "../support/line.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  occupy,
  rejection,
  valuesOn,
} from "../support/nodes.js";
import { startStubbornServer } from "../support/proxy.js";
import { rulesThatExist } from "../support/rights.js";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

const root = join(import.meta.dirname, "..", "..");
const NODE_TIMEOUT_MS = 500;
/** What a call may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 3000;

let timersAtFirst: number;

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
}

// Before the servers start; and in a hook, as the other count is: Jest has a timer for each hook.
beforeAll(() => {
  timersAtFirst = timers();
});

const servers = useServers(5);

beforeAll(() => cacheQueueScripts(servers));

afterAll(async () => {
  // ioredis keeps a timer for two seconds after each disconnect() of a client whose socket is gone.
  await until(
    () => timers() <= timersAtFirst,
    10_000,
    () => `${timers()} timers are left, of ${timersAtFirst} at first`,
  );
});

function urls(): string[] {
  return servers.map(({ url }) => url);
}

const made: Redlock[] = [];

/** One whose clients end with the test, its caller's included, whatever comes of the test. */
function redlockOf(nodes: Iterable<NodeEntry>, settings?: RedlockSettings): Redlock {
  const redlock = new Redlock(nodes, settings);
  made.push(redlock);
  return redlock;
}

afterEach(async () => {
  await Promise.all(made.splice(0).map((redlock) => redlock.quit()));
});

/** An attempt does not wait for nodes that still connect once the others have decided. */
async function untilConnected(redlock: Redlock): Promise<void> {
  await until(
    async () => (await redlock.inspect("resource")).every(({ ok }) => ok),
    10_000,
    () => "not every node could be connected",
  );
}

/** How many clients a server has, less the one that asks. */
async function clientsOf({ port }: RedisServer): Promise<number> {
  const found = /connected_clients:(\d+)/.exec(await ask(port, ["INFO", "clients"]));
  return Number(defined(found)[1]) - 1;
}

async function untilWithoutClients(these: readonly RedisServer[]): Promise<void> {
  for (const server of these) {
    await until(
      async () => (await clientsOf(server)) === 0,
      10_000,
      () => `a client of 127.0.0.1:${server.port} is still connected`,
    );
  }
}

async function msOf(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

/** Freezes the first server and kills the second, for the time of `use`. */
async function withFrozenAndDead(use: () => Promise<void>): Promise<void> {
  const [frozen, dead] = servers.map(defined);
  await defined(frozen).freeze();
  await defined(dead).kill();
  try {
    await use();
  } finally {
    defined(frozen).thaw();
    await defined(dead).restart();
  }
}

describe("quit", () => {
  test.each([
    ["called in an async function", (redlock: Redlock) => redlock.quit()],
    [
      "called by a timer",
      (redlock: Redlock) =>
        new Promise<void>((resolve) => {
          setTimeout(() => {
            void redlock.quit().then(resolve);
          }, 0);
        }),
    ],
  ])("leaves the line before the connections end, %s", async (_, quit) => {
    // On a busy machine a reply may take long.
    const patient = { nodeTimeout: 10_000 };
    const [holder, waiter] = [redlockOf(urls(), patient), redlockOf(urls(), patient)];
    await Promise.all([untilConnected(holder), untilConnected(waiter)]);
    const resource = fresh();
    const waiters = async (): Promise<number[]> =>
      (await holder.inspect(resource)).map(({ resources }) => defined(resources[0]).waiters.length);
    const lock = await holder.acquire(resource, 60_000);
    const settings = { retryCount: -1, retryDelay: 50_000, retryJitter: 0 };
    const waiting = rejection(waiter.acquire(resource, 60_000, settings));
    await until(
      async () => (await waiters()).every((count) => count === 1),
      10_000,
      () => "nobody stands in line",
    );
    await Promise.all([quit(waiter), waiting]);
    expect((await waiting).code).toBe("ERR_REDLOCK_CLOSED");
    expect(await waiters()).toEqual([0, 0, 0, 0, 0]);
    await lock.release();
  });

  test("ends the connections that the library made", async () => {
    const redlock = redlockOf(urls());
    await untilConnected(redlock);
    const lock = await redlock.acquire(fresh(), 60_000);
    await Promise.all(lock.attempts);
    for (const server of servers) expect(await clientsOf(server)).toBe(1);
    await redlock.quit();
    await untilWithoutClients(servers);
  });

  test("ends the clients that it was given, too", async () => {
    const clients = await connectAll(servers);
    const redlock = redlockOf(clients);
    await (await redlock.acquire(fresh(), 60_000)).release();
    await redlock.quit();
    await until(
      () => clients.every(({ status }) => status === "end"),
      5000,
      () => clients.map(({ status }) => status).join(", "),
    );
    await untilWithoutClients(servers);
  });

  test("may be called again, also after the clients have ended", async () => {
    const clients = await connectAll(servers);
    const redlock = redlockOf([...clients.slice(0, 3), ...urls().slice(3)]);
    defined(clients[0]).disconnect();
    await Promise.all([redlock.quit(), redlock.quit()]);
    await redlock.quit();
    await redlock[Symbol.asyncDispose]();
    disconnectAll(clients);
    await untilWithoutClients(servers);
  });

  test("leaves alone what has ended, by itself or by another Redlock: no timer holds the process", async () => {
    const clients = await connectAll(servers);
    const redlock = redlockOf(clients);
    const other = redlockOf(clients);
    const own = redlockOf(urls());
    await untilConnected(own);
    await Promise.all([redlock.quit(), own.quit()]);
    await until(
      () => clients.every(({ status }) => status === "end"),
      10_000,
      () => "a client did not end",
    );
    await untilWithoutClients(servers);
    const before = timers();
    await Promise.all([redlock.quit(), other.quit(), own.quit()]);
    expect(timers()).toBeLessThanOrEqual(before);
  });

  test("ends a Redlock that was made just now, or never used", async () => {
    const mute = await startStubbornServer();
    const lazy = new Redis(defined(servers[0]).port, "127.0.0.1", { lazyConnect: true });
    const [nobody] = await freePorts(1);
    const entries = [...urls().slice(1), lazy, mute.url, `redis://127.0.0.1:${nobody}`];
    const redlock = redlockOf(entries, { nodeTimeout: NODE_TIMEOUT_MS });
    expect(await msOf(() => redlock.quit())).toBeLessThan(NODE_TIMEOUT_MS + MARGIN_MS);
    expect(lazy.status).toBe("end");
    await untilWithoutClients(servers);
    await mute.close();
  });

  test("takes no longer than nodeTimeout where a node is frozen and one is dead", async () => {
    const clients = await connectAll(servers);
    const own = redlockOf(urls(), { nodeTimeout: NODE_TIMEOUT_MS });
    const given = redlockOf(clients, { nodeTimeout: NODE_TIMEOUT_MS });
    for (const redlock of [own, given]) {
      await untilConnected(redlock);
      const lock = await redlock.acquire(fresh(), 60_000);
      await Promise.all(lock.attempts);
      await lock.release();
    }
    await withFrozenAndDead(async () => {
      for (const redlock of [own, given]) {
        // So that the frozen node has commands in flight, and is owed releases.
        await (await redlock.acquire(fresh(), 60_000)).release();
        expect(await msOf(() => redlock.quit())).toBeLessThan(NODE_TIMEOUT_MS + MARGIN_MS);
      }
      // A client of ioredis that has lost its server stays as it is, without another try.
      const others = (): string[] =>
        clients.filter((_, index) => index !== 1).map(({ status }) => status);
      await until(
        () => others().every((status) => status === "end"),
        10_000,
        () => others().join(", "),
      );
    });
    await untilWithoutClients(servers);
    expect(clients.map(({ status }) => status)).not.toContain("ready");
  });

  test("takes 250 ms at most where no nodeTimeout is set and every node is frozen", async () => {
    const clients = await connectAll(servers);
    const redlock = redlockOf(clients);
    await Promise.all(servers.map((server) => server.freeze()));
    try {
      expect(await msOf(() => redlock.quit())).toBeLessThan(250 + MARGIN_MS);
    } finally {
      for (const server of servers) server.thaw();
    }
    await untilWithoutClients(servers);
  });

  test("lets a lock expire by itself: it releases nothing", async () => {
    const resource = fresh();
    const redlock = redlockOf(urls());
    await untilConnected(redlock);
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    await redlock.quit();
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(lock.value));
  });
});

const closings: { name: string; close: (redlock: Redlock) => Promise<void> }[] = [
  { name: "quit()", close: (redlock) => redlock.quit() },
  { name: "disposal", close: (redlock) => redlock[Symbol.asyncDispose]() },
];

describe.each(closings)("after $name", ({ close }) => {
  test("every call rejects with ERR_REDLOCK_CLOSED, and says what to do", async () => {
    const clients = await connectAll(servers);
    const redlock = redlockOf([...clients.slice(0, 2), ...urls().slice(2)]);
    await untilConnected(redlock);
    const held = await redlock.acquire(fresh(), 600_000);
    await Promise.all(held.attempts);
    const adopted = redlock.adopt(held.toJSON());
    await close(redlock);
    for (const client of clients) client.sent = [];

    const neverRun = (): never => {
      throw new Error("the routine ran");
    };
    const calls: (() => Promise<unknown>)[] = [
      () => redlock.acquire(fresh(), 5000),
      () => redlock.acquire(fresh(), 5000, { retryCount: -1 }),
      () => redlock.tryAcquire(fresh(), 5000),
      () => redlock.using(fresh(), 5000, neverRun),
      () => redlock.extend(held, 5000),
      () => held.extend(5000),
      () => adopted.extend(5000),
      () => redlock.release(held),
      () => held.release(),
      () => adopted.release(),
      () => redlock.inspect(fresh()),
    ];
    for (const call of calls) {
      const error = await rejection(call());
      expect(error.code).toBe("ERR_REDLOCK_CLOSED");
      expect(error.name).toBe("ExecutionError");
      expect(error.message).toContain("closed");
      expect(error.message).toContain("Make a new one");
      expect(error.attempts).toEqual([]);
    }
    expect(clients.flatMap(({ sent }) => sent)).toEqual([]);
    disconnectAll(clients);
  });

  test("the release of a lock that was released before still resolves", async () => {
    const redlock = redlockOf(urls());
    await untilConnected(redlock);
    const lock = await redlock.acquire(fresh(), 60_000);
    await lock.release();
    await close(redlock);
    expect((await lock.release()).attempts).toEqual([]);
  });

  test("an acquire that waited rejects with ERR_REDLOCK_CLOSED", async () => {
    const resource = fresh();
    await occupy(servers, resource);
    const clients = await connectAll(servers.slice(0, 1));
    const redlock = redlockOf([...clients, ...urls().slice(1)]);
    const settings = { retryCount: -1, retryDelay: 20, retryJitter: 0 };
    const waiting = rejection(redlock.acquire(resource, 5000, settings));
    await until(
      () => defined(clients[0]).sent.length > 3,
      5000,
      () => "it did not wait",
    );
    await close(redlock);
    expect((await waiting).code).toBe("ERR_REDLOCK_CLOSED");
    disconnectAll(clients);
  });

  test("a running using() has lost its lock at once, and another client gets it", async () => {
    const [redlock, another] = [redlockOf(urls()), redlockOf(urls())];
    await Promise.all([untilConnected(redlock), untilConnected(another)]);
    const resource = fresh();
    let reason: unknown;
    let values: (string | null)[] = [];
    const error = await rejection(
      redlock.using(resource, 60_000, async (signal, lock) => {
        await Promise.all(lock.attempts);
        const closed = close(redlock);
        reason = signal.reason;
        await closed;
        values = await valuesOn(servers, resource);
        await (await another.acquire(resource, 60_000, { retryCount: 0 })).release();
      }),
    );
    expect(values).toEqual(Array(5).fill(null));
    expect(error).toBe(reason);
    expect(error.code).toBe("ERR_REDLOCK_LOST");
    expect(error.cause).toMatchObject({ code: "ERR_REDLOCK_CLOSED" });
  });

  test("another client in the queue is handed the lock of a running using()", async () => {
    const [redlock, another] = [redlockOf(urls()), redlockOf(urls())];
    await Promise.all([untilConnected(redlock), untilConnected(another)]);
    const resource = fresh();
    const settings = { retryCount: -1, retryDelay: 50_000, retryJitter: 0 };
    const error = await rejection(
      redlock.using(resource, 600_000, async () => {
        const waiting = another.acquire(resource, 60_000, settings);
        await until(
          async () =>
            (await another.inspect(resource)).every(
              ({ resources }) => defined(resources[0]).waiters.length === 1,
            ),
          10_000,
          () => "nobody stands in line",
        );
        await close(redlock);
        await (await waiting).release();
      }),
    );
    expect(error.code).toBe("ERR_REDLOCK_LOST");
  });
});

describe("disposal", () => {
  test("closes only what the library made", async () => {
    const clients = await connectAll(servers.slice(0, 2));
    const redlock = redlockOf([...clients, ...urls().slice(2)]);
    await untilConnected(redlock);
    const lock = await redlock.acquire(fresh(), 60_000);
    await Promise.all(lock.attempts);
    await redlock[Symbol.asyncDispose]();
    await untilWithoutClients(servers.slice(2));
    expect(clients.map(({ status }) => status)).toEqual(["ready", "ready"]);
    for (const client of clients) expect(await client.ping()).toBe("PONG");

    // Another Redlock of the same clients goes on.
    const another = redlockOf(clients);
    await (await another.acquire(fresh(), 60_000)).release();
    disconnectAll(clients);
  });

  test("takes no longer than nodeTimeout where a node is frozen and one is dead", async () => {
    const redlock = redlockOf(urls(), { nodeTimeout: NODE_TIMEOUT_MS });
    await untilConnected(redlock);
    const lock = await redlock.acquire(fresh(), 60_000);
    await Promise.all(lock.attempts);
    await withFrozenAndDead(async () => {
      await lock.release();
      const tookMs = await msOf(() => redlock[Symbol.asyncDispose]());
      expect(tookMs).toBeLessThan(NODE_TIMEOUT_MS + MARGIN_MS);
    });
    await untilWithoutClients(servers);
  });
});

describe("a process", () => {
  const begin = `
    import { Redis } from "ioredis";
    import { Redlock } from "./src/index.ts";
    const urls = JSON.parse(process.env.REDLOCK_TEST);
    const settings = { nodeTimeout: 1000, retryDelay: 10, retryJitter: 0, retryCount: 3 };
  `;
  const ofUrls = `const redlock = new Redlock(urls, settings);`;
  const ofClients = `
    const clients = urls.map((url) => new Redis(url).on("error", () => {}));
    const redlock = new Redlock(clients, settings);
  `;
  // With two nodes failed, one late reply fails an attempt, and on a busy machine many are late.
  const work = `
    const patient = { retryCount: -1 };
    await (await redlock.acquire("a-" + process.pid, 600_000, patient)).release();
    await redlock.using("b-" + process.pid, 600_000, patient, () => redlock.inspect("c"));
    const kept = await redlock.acquire("d-" + process.pid, 5000, patient);
    const refused = await redlock.tryAcquire("d-" + process.pid, 600_000);
    if (refused !== null) throw new Error("not refused");
  `;
  /** Until the majority is gone, which it may be only soon. */
  const failingWork = `
    for (let failed = false; !failed; ) {
      try {
        await (await redlock.acquire("e-" + process.pid, 600_000)).release();
      } catch (error) {
        if (error.code !== "ERR_REDLOCK_QUORUM") throw error;
        failed = true;
      }
    }
  `;
  const quits = `await redlock.quit();`;
  const disposes = `await redlock[Symbol.asyncDispose]();`;
  const quitsItsClients = `await Promise.all(clients.map((client) => client.quit()));`;
  const disconnectsItsClients = `for (const client of clients) client.disconnect();`;
  const end = `console.log("closed");`;

  /** Runs the program until it ends by itself; one that does not is killed, and has no code then. */
  function run(
    parts: readonly string[],
  ): Promise<{ code: number | null; output: string; lingerMs: number }> {
    const args = programs.args([begin, ...parts, end].join(""));
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: "", REDLOCK_TEST: JSON.stringify(urls()) },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 40_000,
      killSignal: "SIGKILL",
    });
    let output = "";
    let closedMs = Infinity;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        if (output.endsWith("closed\n")) closedMs = performance.now();
      });
    }
    return new Promise((resolve) => {
      child.on("close", (code) => {
        resolve({ code, output, lingerMs: performance.now() - closedMs });
      });
    });
  }

  /** Each by itself, soon, and without a word on its output. ioredis gives a socket two seconds to close. */
  async function expectToEnd(...programs: (readonly string[])[]): Promise<void> {
    for (const { code, output, lingerMs } of await Promise.all(programs.map(run))) {
      expect({ code, output }).toEqual({ code: 0, output: "closed\n" });
      expect(lingerMs).toBeLessThan(2000 + MARGIN_MS * slowness());
    }
  }

  test("that uses URLs ends by itself after quit(), and after disposal", async () => {
    await expectToEnd([ofUrls, work, quits], [ofUrls, work, disposes], [ofUrls, quits]);
  });

  test("that quits its own clients ends by itself, without a word to the Redlock", async () => {
    await expectToEnd(
      [ofClients, work, quitsItsClients],
      [ofClients, work, disposes, quitsItsClients],
    );
  });

  test("ends by itself with a node frozen and one dead", async () => {
    await withFrozenAndDead(async () => {
      await expectToEnd(
        [ofUrls, work, quits],
        [ofUrls, work, disposes],
        [ofClients, work, quits],
        // What quit() says to a frozen node stays without an answer, with any library.
        [ofClients, work, disconnectsItsClients],
      );
    });
  });

  test("ends by itself with every node frozen", async () => {
    await Promise.all(servers.map((server) => server.freeze()));
    try {
      await expectToEnd(
        [ofUrls, failingWork, quits],
        [ofClients, failingWork, disconnectsItsClients],
      );
    } finally {
      for (const server of servers) server.thaw();
    }
  });

  test("ends by itself where the nodes froze while it ran", async () => {
    const pids = JSON.stringify(servers.map(({ pid }) => pid));
    const freezes = `for (const pid of ${pids}) process.kill(pid, "SIGSTOP");`;
    const thaw = (): void => {
      for (const server of servers) server.thaw();
    };
    try {
      await expectToEnd([ofUrls, work, freezes, failingWork, quits]);
      thaw();
      await expectToEnd([ofClients, work, freezes, failingWork, disconnectsItsClients]);
    } finally {
      thaw();
    }
  });
});

describe("a password", () => {
  const password = "hunter2/p@ss word";
  const secrets = ["hunter2", "p@ss", "p%40ss"];
  const encoded = encodeURIComponent(password);
  const otherEncoded = encodeURIComponent(`not-${password}`);
  const output: unknown[] = [];
  const guarded = useServers(3, {
    args: [
      ...["--requirepass", password],
      ...["--user", "app", "on", `>${password}`, ...rulesThatExist(["~*", "&*", "+@all"])],
    ],
  });

  beforeEach(() => {
    output.length = 0;
    for (const method of ["log", "info", "warn", "error", "debug"] as const) {
      jest.spyOn(console, method).mockImplementation((...args: unknown[]) => {
        output.push(args);
      });
    }
  });

  afterEach(() => {
    jest.restoreAllMocks();
  });

  /** Where in a value, by whatever way it can be read or written down, a secret is. */
  function leaksIn(value: unknown): string[] {
    const found: string[] = [];
    const seen = new Set<unknown>();
    const look = (text: string, path: string): void => {
      if (secrets.some((secret) => text.includes(secret))) found.push(path);
    };
    const walk = (item: unknown, path: string): void => {
      if (typeof item === "string") look(item, path);
      if (Buffer.isBuffer(item)) look(item.toString("latin1"), path);
      if (item === null || (typeof item !== "object" && typeof item !== "function")) return;
      if (seen.has(item)) return;
      seen.add(item);
      if (types.isMap(item)) {
        [...item].forEach(([key, entry], index) => {
          walk(key, `${path}.key(${index})`);
          walk(entry, `${path}.entry(${index})`);
        });
      }
      if (types.isSet(item))
        [...item].forEach((entry, index) => {
          walk(entry, `${path}(${index})`);
        });
      if (types.isNativeError(item)) look(String(item), `String(${path})`);
      for (const key of Reflect.ownKeys(item)) {
        let property: unknown;
        try {
          property = (item as Record<PropertyKey, unknown>)[key];
        } catch {
          continue;
        }
        look(String(key), `${path}.${String(key)} (the key)`);
        walk(property, `${path}.${String(key)}`);
      }
    };
    walk(value, "value");
    const everything = { depth: Infinity, maxArrayLength: null, maxStringLength: null };
    look(inspect(value, everything), "inspect(value)");
    look(inspect(value, { ...everything, showHidden: true }), "inspect(value, showHidden)");
    look(JSON.stringify(value), "JSON.stringify(value)");
    return found;
  }

  interface Evidence {
    readonly events: unknown[][];
    readonly outcomes: unknown[];
  }

  /** Everything that comes out of every call, in words, errors, events and statistics. */
  async function evidenceOf(redlock: Redlock): Promise<Evidence> {
    const events: unknown[][] = [];
    redlock.on("error", (...args: unknown[]) => {
      events.push(args);
    });
    const outcomes: unknown[] = [];
    const keep = async (action: () => Promise<unknown>): Promise<unknown> => {
      const outcome = await action().catch((error: unknown) => error);
      const { attempts } = Object(outcome) as { attempts?: ExecutionError["attempts"] };
      outcomes.push(outcome, attempts === undefined ? [] : await Promise.all(attempts));
      return outcome;
    };
    const quick = { retryCount: 1, retryDelay: 5, retryJitter: 0 };
    const resource = fresh();
    await keep(() => redlock.inspect(resource));
    const taken = (await keep(() => redlock.acquire(resource, 60_000, quick))) as Lock;
    await keep(() => redlock.acquire(resource, 60_000, quick));
    await keep(() => redlock.tryAcquire([resource, fresh()], 60_000, quick));
    await keep(() => redlock.using(fresh(), 5000, quick, () => "value"));
    await keep(() => redlock.inspect([resource, fresh()]));
    const adopted = redlock.adopt({
      version: 1,
      resources: [resource],
      value: "another's",
      expiration: 0,
      ttl: 60_000,
      keyPrefix: "",
    });
    await keep(() => redlock.extend(adopted, 60_000, quick));
    await keep(() => redlock.release(adopted, quick));
    if ("extend" in taken) {
      await keep(() => redlock.extend(taken, 60_000, quick));
      await keep(() => redlock.release(taken, quick));
      await keep(() => taken.extend(60_000));
    }
    return { events, outcomes };
  }

  function messagesIn(outcomes: readonly unknown[]): string {
    return outcomes
      .map((outcome) => (types.isNativeError(outcome) ? outcome.message : ""))
      .join("\n");
  }

  test("is found by this test, wherever an error of the client's hides it", async () => {
    const client = new Redis(defined(guarded[0]).port, "127.0.0.1", {
      ...{ password: `not-${password}`, retryStrategy: () => null },
    });
    const error = await new Promise<unknown>((resolve) => client.once("error", resolve));
    client.disconnect();
    expect((error as Error).message).toMatch(/^WRONGPASS/);
    expect(leaksIn(error)).not.toEqual([]);
    expect(leaksIn(new Error("outer", { cause: error }))).not.toEqual([]);
    expect(leaksIn(new Map([["client", { error }]]))).not.toEqual([]);
    expect(leaksIn([{ message: `at ${password}` }])).not.toEqual([]);
    expect(leaksIn(new Error("WRONGPASS invalid username-password pair"))).toEqual([]);
  });

  const rightUrls: [string, (port: number) => string][] = [
    ["a user's", (port) => `redis://app:${encoded}@127.0.0.1:${port}`],
    ["the default user's", (port) => `redis://:${encoded}@127.0.0.1:${port}`],
    ["an option's", (port) => `redis://127.0.0.1:${port}?password=${encoded}`],
  ];

  test.each(rightUrls)(
    "that is right, %s, opens the node and is seen nowhere",
    async (_, toUrl) => {
      const redlock = redlockOf(
        guarded.map(({ port }) => toUrl(port)),
        { nodeTimeout: 5000 },
      );
      await untilConnected(redlock);
      const lock = await redlock.acquire(fresh(), 60_000);
      const stats = await defined(lock.attempts[0]);
      expect(stats.votesFor.size).toBe(3);
      await lock.release();
      const nodes = await redlock.inspect(fresh());
      expect(nodes.map(({ node, ok }) => [node, ok])).toEqual(
        guarded.map(({ port }) => [`127.0.0.1:${port}`, true]),
      );
      const evidence = await evidenceOf(redlock);
      await redlock.quit();
      const { clients, settings } = redlock;
      expect(leaksIn({ evidence, stats, nodes, lock, redlock, clients, settings, output })).toEqual(
        [],
      );
    },
  );

  const wrongUrls: [string, (port: number) => string, RegExp][] = [
    ["a user's", (port) => `redis://app:${otherEncoded}@127.0.0.1:${port}`, /WRONGPASS/],
    ["the default user's", (port) => `redis://:${otherEncoded}@127.0.0.1:${port}`, /WRONGPASS/],
    ["no user's", (port) => `redis://nobody:${encoded}@127.0.0.1:${port}`, /WRONGPASS/],
    ["an option's", (port) => `redis://127.0.0.1:${port}?password=${otherEncoded}`, /WRONGPASS/],
    ["missing", (port) => `redis://127.0.0.1:${port}`, /NOAUTH/],
  ];

  test.each(wrongUrls)(
    "that is wrong, %s, is said to be so, and is seen nowhere",
    async (_, toUrl, says) => {
      const redlock = redlockOf(
        guarded.map(({ port }) => toUrl(port)),
        { nodeTimeout: 2000 },
      );
      const evidence = await evidenceOf(redlock);
      await redlock.quit();
      const messages = messagesIn(evidence.outcomes);
      expect(messages).toMatch(says);
      for (const { port } of guarded) expect(messages).toContain(`127.0.0.1:${port}`);
      expect(evidence.events).not.toEqual([]);
      const { clients, settings } = redlock;
      expect(leaksIn({ evidence, redlock, clients, settings, output })).toEqual([]);
    },
  );

  test("is seen nowhere where nodes are dead, frozen, no Redis, or break a connection", async () => {
    const own = await startServer({ args: ["--requirepass", password] });
    const frozen = await startServer({ args: ["--requirepass", password] });
    const mute = await startStubbornServer();
    const failing = await startStubbornServer("-ERR unknown command");
    const [nobody] = await freePorts(1);
    const ports = [own.port, frozen.port, mute.port, failing.port, defined(nobody)];
    const redlock = redlockOf(
      ports.map((port) => `redis://:${encoded}@127.0.0.1:${port}`),
      { nodeTimeout: NODE_TIMEOUT_MS },
    );
    try {
      const before = await evidenceOf(redlock);
      await frozen.freeze();
      await own.kill();
      const after = await evidenceOf(redlock);
      const messages = messagesIn(after.outcomes);
      expect(messages).toContain(`127.0.0.1:${defined(nobody)}`);
      expect(messages).toContain("ECONNREFUSED");
      const { clients, settings } = redlock;
      expect(leaksIn({ before, after, redlock, clients, settings, output })).toEqual([]);
    } finally {
      await redlock.quit();
      await stopAll([own, frozen]);
      await mute.close();
      await failing.close();
    }
  });

  test("stands in no client of a URL, which is its address", async () => {
    const { port } = defined(guarded[0]);
    const redlock = redlockOf([`redis://app:${encoded}@127.0.0.1:${port}/0?db=0`]);
    const [client] = redlock.clients;
    expect(client).toMatchObject({ name: `127.0.0.1:${port}` });
    expect((client as { url: string }).url).toMatch(/^redis:\/\/127\.0\.0\.1:\d+(\/0)?$/);
    await redlock.quit();
  });

  test("of a lost lock's node is not in the error that says so", async () => {
    const redlock = redlockOf(
      guarded.map(({ port }) => `redis://:${encoded}@127.0.0.1:${port}`),
      { nodeTimeout: 5000 },
    );
    const resource = fresh();
    const admin = guarded.map(({ port }) => new Redis(port, "127.0.0.1", { password }));
    let reason: unknown;
    const settings = { automaticExtensionThreshold: 4900 };
    const error = await rejection(
      redlock.using(resource, 5000, settings, async (signal) => {
        await Promise.all(admin.map((client) => client.del(resource)));
        await until(
          () => signal.aborted,
          5000 + MARGIN_MS,
          () => "the loss was not said",
        );
        reason = signal.reason as unknown;
      }),
    );
    expect(error.code).toBe("ERR_REDLOCK_LOST");
    disconnectAll(admin);
    await redlock.quit();
    expect(leaksIn({ error, reason, output })).toEqual([]);
  });

  /** A caller's client holds its password itself, and stands for its node: all but the clients is looked at. */
  function withoutClients({ events, outcomes }: Evidence): unknown {
    const plain = (value: unknown): unknown => {
      if (types.isNativeError(value)) {
        const rest = Object.entries(value).filter(([name]) => name !== "attempts");
        return [value.message, value.stack, value.cause, rest];
      }
      if (Array.isArray(value)) return value.map(plain);
      const { votesAgainst } = Object(value) as { votesAgainst?: ReadonlyMap<unknown, Error> };
      return votesAgainst === undefined ? undefined : [...votesAgainst.values()];
    };
    return { events, outcomes: outcomes.map(plain) };
  }

  const givenClients: [string, (port: number) => NodeEntry & { disconnect: () => void }][] = [
    ["Redis", (port) => new Redis(port, "127.0.0.1", { password: `not-${password}` })],
    [
      "Cluster",
      (port) =>
        new Cluster([{ host: "127.0.0.1", port }], {
          redisOptions: { password: `not-${password}` },
        }),
    ],
  ];

  test.each(givenClients)(
    "that is wrong of a caller's %s client is in no vote, message or event",
    async (_, connect) => {
      const clients = guarded.map(({ port }) => connect(port));
      const redlock = redlockOf(clients, { nodeTimeout: NODE_TIMEOUT_MS });
      const evidence = await evidenceOf(redlock);
      for (const client of clients) client.disconnect();
      expect(evidence.events).not.toEqual([]);
      expect(messagesIn(evidence.outcomes)).not.toBe("");
      const { settings } = redlock;
      expect(leaksIn({ evidence: withoutClients(evidence), settings, output })).toEqual([]);
    },
  );

  test("of a URL that is none is not in the message", () => {
    for (const url of [`redis:/:${password}@127.0.0.1`, `http://:${encoded}@127.0.0.1`]) {
      let error: unknown;
      try {
        new Redlock([url]);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(TypeError);
      expect(leaksIn(error)).toEqual([]);
    }
  });
});
