import { beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { ask, until } from "../support/servers.js";
import { type Lock, Redlock } from "../../src/index.js";
import { batchScript } from "../../src/operations/batch.js";
import { extendScript } from "../../src/operations/extend.js";
import { startClusterOfOne } from "../support/cluster-mode.js";
import { untilWaiting } from "../support/line.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  occupy,
  type RecordingClient,
  rejection,
  untilFree,
  valuesOn,
} from "../support/nodes.js";
import { useServersAndClients } from "../support/use-servers.js";

const { servers, clients } = useServersAndClients(3);
let redlock: Redlock;

beforeAll(async () => {
  redlock = new Redlock(clients, { nodeTimeout: 5000 });
  await cacheScripts();
});

beforeEach(forgetSent);

async function forgetSent(): Promise<void> {
  // What the nodes that were not waited for have still to answer.
  await Promise.all(clients.map((client) => client.ping()));
  for (const client of clients) client.sent = [];
}

function acquireAll(resources: readonly string[]): Promise<Lock[]> {
  return Promise.all(resources.map((resource) => redlock.acquire(resource, 10_000)));
}

/** The calls that extend, one lock or many. */
function extensionsIn({ sent: lines }: RecordingClient): string[] {
  return lines.filter((line) => line.includes(extendScript.sha1) || line.includes(" extend "));
}

/** By using each, alone and in a batch. */
async function cacheScripts(): Promise<void> {
  const locks = await acquireAll([fresh(), fresh()]);
  await Promise.all(locks.map((lock) => lock.release()));
  await redlock.using(fresh(), 10_000, (_, lock) => lock.extend(10_000));
}

/** The names of what was sent to each node. */
function sent(): string[][] {
  return clients.map((client) => client.sent.map((command) => command.split(" ")[0] ?? ""));
}

describe("operations of one turn of the event loop", () => {
  test("share one call for each node", async () => {
    const resources = Array.from({ length: 100 }, () => fresh());
    const locks = await acquireAll(resources);
    expect(sent()).toEqual([["evalsha"], ["evalsha"], ["evalsha"]]);
    expect(new Set(locks.map(({ value }) => value)).size).toBe(100);
    for (const [index, lock] of locks.entries()) {
      await Promise.all(lock.attempts);
      expect(lock.resources).toEqual([resources[index]]);
      expect(await valuesOn(servers, resources[index] ?? "")).toEqual(Array(3).fill(lock.value));
    }
    await Promise.all(locks.map((lock) => lock.extend(20_000)));
    await Promise.all(locks.map((lock) => lock.release()));
    expect(sent()).toEqual(Array(3).fill(["evalsha", "evalsha", "evalsha"]));
    for (const resource of resources) await untilFree(servers, resource);
  });

  test("that is alone goes as its plain command", async () => {
    const lock = await redlock.acquire(fresh(), 10_000);
    expect(sent()).toEqual([["set"], ["set"], ["set"]]);
    await lock.release();
  });

  test("are done in their order, and each has its own answer", async () => {
    const [held, mine, other] = [fresh(), fresh(), fresh()];
    await occupy(servers, held);
    const [lock] = await acquireAll([mine]);
    const [leaving] = await acquireAll([fresh()]);
    const [first, second, refused, extended, released, several] = await Promise.all([
      redlock.tryAcquire(other, 10_000),
      redlock.tryAcquire(other, 10_000),
      rejection(redlock.acquire(held, 10_000, { retryCount: 0 })),
      defined(lock).extend(30_000),
      defined(leaving).release(),
      redlock.acquire([fresh(), fresh()], 10_000),
    ]);
    expect(first?.valid).toBe(true);
    expect(second).toBeNull();
    expect(refused.code).toBe("ERR_REDLOCK_QUORUM");
    expect(extended).toBe(lock);
    expect(released.attempts).toHaveLength(1);
    expect(several.valid).toBe(true);
    await untilFree(servers, defined(leaving?.resources[0]));
    await defined(lock).release();
  });

  test("fail one by one: an error in a run of equal operations is that of its own alone", async () => {
    const resources = Array.from({ length: 5 }, () => fresh());
    const broken = [resources[1], resources[2], resources[4]];
    for (const { port } of servers) {
      for (const name of broken) await ask(port, ["LPUSH", `{${name}}:redlock:fence`, "no token"]);
    }
    const results = await Promise.allSettled([
      ...resources.map((name) => redlock.acquire(name, 10_000, { fencing: true, retryCount: 0 })),
      redlock.acquire(fresh(), 10_000),
    ]);
    expect(sent().map((names) => names.slice(0, 1))).toEqual(Array(3).fill(["evalsha"]));
    expect(results.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "rejected",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
    for (const result of results) {
      if (result.status === "rejected") expect(String(result.reason)).toContain("fencing token");
      else await result.value.release();
    }
  });

  test("hand over to a waiter, and delete where nobody waits, in one batch", async () => {
    const resources = Array.from({ length: 4 }, () => fresh());
    const locks = await acquireAll(resources);
    const awaited = [resources[0], resources[3]].map(defined);
    const waits = awaited.map((name) => redlock.acquire(name, 10_000, { acquireTimeout: 9000 }));
    for (const name of awaited) await untilWaiting(redlock, name, 1);
    await Promise.all(locks.map((lock) => lock.release()));
    for (const name of resources.slice(1, 3)) await untilFree(servers, name);
    const next = await Promise.all(waits);
    expect(next.map(({ valid }) => valid)).toEqual([true, true]);
    await Promise.all(next.map((lock) => lock.release()));
  });

  test("go in calls of at most 256", async () => {
    await acquireAll(Array.from({ length: 600 }, () => fresh()));
    expect(sent()).toEqual(Array(3).fill(["evalsha", "evalsha", "evalsha"]));
  });

  /** How many keys each call to a server has, and how many characters these have together. */
  function keysSent(): { keys: number; characters: number }[] {
    return clients.flatMap(({ sent: lines }) =>
      lines.map((line) => {
        const [, , count, ...rest] = line.split(" ");
        const keys = rest.slice(0, Number(count));
        return { keys: keys.length, characters: keys.join("").length };
      }),
    );
  }

  test("go in calls of at most 1024 keys", async () => {
    const many = Array.from({ length: 50 }, () => Array.from({ length: 100 }, () => fresh()));
    const locks = await Promise.all(many.map((names) => redlock.acquire(names, 60_000)));
    expect(locks.every(({ valid }) => valid)).toBe(true);
    expect(keysSent().map(({ keys }) => keys)).toEqual(Array(15).fill(1000));
    await forgetSent();
    await Promise.all(locks.map((lock) => lock.extend(60_000)));
    expect(keysSent().map(({ keys }) => keys)).toEqual(Array(15).fill(1000));
    await Promise.all(locks.map((lock) => lock.release()));
    for (const [name] of many) await untilFree(servers, defined(name));
  });

  test("go in calls whose keys have at most 100 000 characters, but for an operation by itself", async () => {
    const name = (length: number): string => fresh().padEnd(length, "x");
    const locks = await Promise.all(
      [60_000, 39_000, 2000, 98_500, 10].map((length) => redlock.acquire(name(length), 60_000)),
    );
    expect(sent()).toEqual(Array(3).fill(["evalsha", "set", "evalsha"]));
    await Promise.all(locks.map((lock) => lock.release()));
  });

  test("are sent once more in full to a server that has not cached their script", async () => {
    await Promise.all(servers.map(({ port }) => ask(port, ["SCRIPT", "FLUSH"])));
    const locks = await acquireAll([fresh(), fresh(), fresh()]);
    expect(locks.every(({ valid }) => valid)).toBe(true);
    await until(
      () => sent().every((names) => names.length > 1),
      5000,
      () => JSON.stringify(sent()),
    );
    // A server that says so when the others have decided is given the script for the next time.
    const again = sent().map(([first, second]) => (first === "evalsha" ? second : first));
    expect(again.filter((name) => name === "eval").length).toBeGreaterThanOrEqual(2);
    expect(again.filter((name) => name !== "eval" && name !== "script")).toEqual([]);
  });
});

describe("a batch that a server refuses as a whole", () => {
  test("is sent again one by one, so that one forbidden key stops no other", async () => {
    await Promise.all(
      servers.map(({ port }) =>
        ask(port, ["ACL", "SETUSER", "limited", "on", ">secret", "~allowed:*", "+@all"]),
      ),
    );
    const limited = new Redlock(
      servers.map(({ port }) => `redis://limited:secret@127.0.0.1:${port}`),
      { nodeTimeout: 5000, retryCount: 0 },
    );
    const [lock, refused, again] = await Promise.all([
      limited.acquire(fresh("allowed:a"), 10_000),
      rejection(limited.acquire(fresh("forbidden"), 10_000)),
      limited.acquire(fresh("allowed:b"), 10_000),
    ]);
    expect([lock.valid, again.valid]).toEqual([true, true]);
    expect(refused.message).toContain("NOPERM");
    await Promise.all([lock.release(), again.release()]);
    await limited.quit();
  });
});

describe("a server that refuses keys of several slots", () => {
  test("is asked by hash tag from then on", async () => {
    const server = await startClusterOfOne();
    const [client] = await connectAll([server]);
    try {
      const { port } = server;
      await ask(port, ["SCRIPT", "LOAD", batchScript.text]);
      const own = new Redlock([defined(client)], {
        ...{ nodeTimeout: 5000, queue: false, retryCount: 0 },
      });
      const refused = [fresh(), fresh()];
      await Promise.all(refused.map((name) => own.acquire(name, 60_000)));
      const commands = defined(client).sent.map((line) => line.split(" ")[0]);
      expect(commands.slice(-3)).toEqual(["evalsha", "set", "set"]);

      defined(client).sent = [];
      const [one, other, alone] = [fresh(), fresh(), fresh()];
      const groups = [
        [`{${one}}:a`, `b:{${one}}`, `{${one}}{${other}}`],
        [`{${other}}`, other],
        [`{{${one}}`],
        // Braces with nothing between are no tag.
        [`{}${one}{${other}}`],
        [`{}${alone}`],
        [alone],
      ];
      const names = groups.flat();
      const locks = await Promise.all(names.map((name) => own.acquire(name, 60_000)));
      expect(locks.every(({ valid }) => valid)).toBe(true);
      const keys = defined(client).sent.map((line) =>
        names.filter((name) => line.split(" ").includes(name)),
      );
      expect(keys).toEqual(groups);
      const twice = await Promise.all([
        own.tryAcquire(alone, 60_000),
        own.tryAcquire(alone, 60_000),
      ]);
      expect(twice).toEqual([null, null]);
      expect(defined(client).sent.at(-1)).toMatch(/^evalsha \S+ 2 /);
      await Promise.all(locks.map((lock) => lock.release()));
      expect(await ask(port, ["DBSIZE"])).toBe(String(refused.length));
    } finally {
      disconnectAll([defined(client)]);
      await server.stop();
    }
  });
});

describe("an operation of a batch that fails", () => {
  test("fails alone: the others are done", async () => {
    const [lock] = await acquireAll([fresh()]);
    await forgetSent();
    await Promise.all(servers.map(({ port }) => ask(port, ["CONFIG", "SET", "maxmemory", "1"])));
    const [refused] = await Promise.all([
      rejection(redlock.acquire(fresh(), 10_000, { retryCount: 0 })),
      defined(lock).release(),
    ]);
    await Promise.all(servers.map(({ port }) => ask(port, ["CONFIG", "SET", "maxmemory", "0"])));
    expect(sent().flat()).not.toContain("set");
    expect(refused.message).toContain("OOM");
    await untilFree(servers, defined(lock?.resources[0]));
  });
});

/** So that a busy machine loses none of the locks, and there are several extensions in a few seconds. */
const EACH_SECOND = { automaticExtensionThreshold: 9000 };

describe("many locks that are kept", () => {
  test("are extended together", async () => {
    await Promise.all(
      Array.from({ length: 50 }, () =>
        redlock.using(fresh(), 10_000, EACH_SECOND, async (signal) => {
          await new Promise((resolve) => setTimeout(resolve, 4000));
          expect(signal.aborted).toBe(false);
        }),
      ),
    );
    // At least three extensions of each lock, so 150 by themselves.
    for (const client of clients) expect(extensionsIn(client).length).toBeLessThan(75);
    for (const client of clients) expect(extensionsIn(client).length).toBeGreaterThanOrEqual(3);
  });
});
