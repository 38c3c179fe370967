import { beforeAll, describe, expect, test } from "@jest/globals";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ask, until } from "../support/servers.js";
import { ExecutionError, Lock, type LockJson, NodeError, Redlock } from "../../src/index.js";
import { extendScript } from "../../src/operations/extend.js";
import { defined, fresh, occupy, rejection, untilFree, valuesOn } from "../support/nodes.js";
import { startProxy, startStubbornServer } from "../support/proxy.js";
import { useServersAndClients } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

const root = join(import.meta.dirname, "..", "..");
/** Long, so that a busy machine fails no vote. */
const NODE_TIMEOUT_MS = 5000;
/** What a call may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 3000;

const { servers, clients } = useServersAndClients(5);
let redlock: Redlock;

beforeAll(async () => {
  // A node that has not cached the script when the others have decided abstains, this once.
  for (const { port } of servers) await ask(port, ["SCRIPT", "LOAD", extendScript.text]);
  redlock = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0 });
});

/** Another Redlock of the same nodes, with connections of its own, as another process has it. */
async function withAnother(
  use: (another: Redlock) => Promise<void>,
  settings: { keyPrefix?: string } = {},
): Promise<void> {
  const another = new Redlock(
    servers.map(({ url }) => url),
    { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0, ...settings },
  );
  try {
    await use(another);
  } finally {
    await another.quit();
  }
}

function inTransit(lock: Lock): LockJson {
  return JSON.parse(JSON.stringify(lock)) as LockJson;
}

describe("inspect", () => {
  test("says of a free resource that no node holds anything", async () => {
    const resource = fresh();
    const nodes = await redlock.inspect(resource);
    expect(nodes.map(({ node }) => node)).toEqual(servers.map(({ port }) => `127.0.0.1:${port}`));
    for (const found of nodes) {
      expect(found.ok).toBe(true);
      expect(found).not.toHaveProperty("error");
      expect(found.resources).toHaveLength(1);
      expect(found.resources[0]).toMatchObject({
        ...{ resource, key: resource, value: null, remainingMs: 0 },
      });
    }
  });

  test("says of a held one which value each node holds, and for how long", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    for (const { ok, resources } of await redlock.inspect([resource])) {
      expect(ok).toBe(true);
      expect(resources).toHaveLength(1);
      const [held] = resources;
      expect(held).toMatchObject({ resource, key: resource, value: lock.value });
      expect(defined(held).remainingMs).toBeGreaterThan(50_000);
      expect(defined(held).remainingMs).toBeLessThanOrEqual(60_000);
    }
    await lock.extend(600_000);
    const rests = (await redlock.inspect(resource)).map(
      ({ resources: [held] }) => defined(held).remainingMs,
    );
    expect(rests.filter((restMs) => restMs > 500_000).length).toBeGreaterThanOrEqual(3);
    await lock.release();
    await untilFree(servers, resource);
    for (const { resources } of await redlock.inspect(resource)) {
      expect(resources[0]).toMatchObject({ value: null, remainingMs: 0 });
    }
  });

  test("says for each node by itself what it holds", async () => {
    const resource = fresh();
    await occupy(servers.slice(0, 2), resource, "another");
    const values = (await redlock.inspect(resource)).map(({ resources: [held] }) => held?.value);
    expect(values).toEqual(["another", "another", null, null, null]);
  });

  test("answers for several resources in their order, repeats folded", async () => {
    const [a, b] = [fresh(), fresh()];
    const lock = await redlock.acquire(b, 60_000);
    await Promise.all(lock.attempts);
    for (const { resources } of await redlock.inspect([a, b, a])) {
      expect(resources.map(({ resource }) => resource)).toEqual([a, b]);
      expect(resources.map(({ value }) => value)).toEqual([null, lock.value]);
    }
    await lock.release();
  });

  test("reads under the key prefix", async () => {
    const resource = fresh();
    const prefixed = new Redlock(clients, { keyPrefix: "app:", nodeTimeout: NODE_TIMEOUT_MS });
    await occupy(servers, `app:${resource}`, "held");
    for (const { resources } of await prefixed.inspect(resource)) {
      expect(resources[0]).toMatchObject({ resource, key: `app:${resource}`, value: "held" });
    }
    const [unprefixed] = await redlock.inspect(resource);
    expect(defined(unprefixed).resources[0]).toMatchObject({ value: null });
  });

  test("gives a key without an expiry an endless rest", async () => {
    const resource = fresh();
    await occupy(servers, resource, "for ever");
    for (const { resources } of await redlock.inspect(resource)) {
      expect(resources[0]).toMatchObject({ value: "for ever", remainingMs: Infinity });
    }
  });

  test.each([
    ["list", "RPUSH", ["item"]],
    ["hash", "HSET", ["field", "value"]],
    ["zset", "ZADD", ["1", "member"]],
  ])("says that a key holds a %s, which is no value of a lock", async (type, command, args) => {
    const [other, free] = [fresh(), fresh()];
    await Promise.all(servers.map(({ port }) => ask(port, [command, other, ...args])));
    for (const { ok, resources } of await redlock.inspect([other, free])) {
      expect(ok).toBe(true);
      expect(resources[0]).toMatchObject({ resource: other, value: null, type });
      expect(resources[1]).toMatchObject({ resource: free, value: null });
    }
  });

  test("changes nothing", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    for (let times = 0; times < 3; times++) await redlock.inspect([resource, fresh()]);
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(lock.value));
    expect(lock.valid).toBe(true);
    await lock.release();
  });

  test("waits for nodes that are still connecting", async () => {
    await withAnother(async (another) => {
      const nodes = await another.inspect(fresh());
      expect(nodes.map(({ ok }) => ok)).toEqual(Array(5).fill(true));
    });
  });

  test("can be written as JSON", async () => {
    const nodes = await redlock.inspect(fresh());
    expect(JSON.parse(JSON.stringify(nodes))).toEqual(nodes);
  });
});

describe("inspect with nodes in trouble", () => {
  const { servers: troubled, clients: theirs } = useServersAndClients(3);

  test("says which node is silent, and answers for the others within nodeTimeout", async () => {
    const resource = fresh();
    await occupy(troubled, resource, "held");
    await defined(troubled[1]).freeze();
    try {
      const patient = new Redlock(theirs, { nodeTimeout: 1000 });
      const start = performance.now();
      const nodes = await patient.inspect(resource);
      expect(performance.now() - start).toBeLessThan(1000 + MARGIN_MS);
      expect(nodes.map(({ ok }) => ok)).toEqual([true, false, true]);
      const { node, error, resources } = defined(nodes[1]);
      expect(node).toBe(`127.0.0.1:${defined(troubled[1]).port}`);
      expect(error).toBeInstanceOf(NodeError);
      expect(error).toMatchObject({ code: "ERR_REDLOCK_NODE_TIMEOUT", node });
      expect(defined(error).message).toContain("no answer");
      expect(resources).toEqual([]);
      expect(defined(nodes[0]).resources[0]).toMatchObject({ value: "held" });
    } finally {
      defined(troubled[1]).thaw();
    }
  });

  test("resolves even where no node answers, in 250 ms without another nodeTimeout", async () => {
    await Promise.all(troubled.map((server) => server.freeze()));
    try {
      const start = performance.now();
      const nodes = await new Redlock(theirs).inspect(fresh());
      const tookMs = performance.now() - start;
      expect(tookMs).toBeGreaterThan(200);
      expect(tookMs).toBeLessThan(250 + MARGIN_MS);
      expect(nodes.map(({ ok }) => ok)).toEqual([false, false, false]);
    } finally {
      for (const server of troubled) server.thaw();
    }
  });

  test("says which node is down and why, at once", async () => {
    await Promise.all(theirs.map((client) => client.ping()));
    const dead = defined(troubled[2]);
    await dead.kill();
    await until(
      () => defined(theirs[2]).status !== "ready",
      5000,
      () => "the client did not notice",
    );
    const patient = new Redlock(theirs, { nodeTimeout: 60_000 });
    const start = performance.now();
    const nodes = await patient.inspect(fresh());
    expect(performance.now() - start).toBeLessThan(60_000);
    expect(nodes.map(({ ok }) => ok)).toEqual([true, true, false]);
    const { node, error, resources } = defined(nodes[2]);
    expect(node).toBe(`127.0.0.1:${dead.port}`);
    expect(error).toMatchObject({ code: "ERR_REDLOCK_NODE_DOWN", node });
    expect(resources).toEqual([]);
    await dead.restart();
    await until(
      async () => (await patient.inspect(fresh())).every(({ ok }) => ok),
      10_000,
      () => "the node did not come back",
    );
  });

  test("says of a node that accepts connections and is mute that it is silent", async () => {
    const mute = await startStubbornServer();
    const urls = [...troubled.map(({ url }) => url), mute.url];
    const mixed = new Redlock(urls, { nodeTimeout: 1000 });
    try {
      const nodes = await mixed.inspect(fresh());
      expect(nodes.map(({ ok }) => ok)).toEqual([true, true, true, false]);
      expect(defined(nodes[3])).toMatchObject({
        node: `127.0.0.1:${mute.port}`,
        error: { code: "ERR_REDLOCK_NODE_TIMEOUT" },
      });
    } finally {
      await mixed.quit();
      await mute.close();
    }
  });

  test("passes on what a node answers with an error", async () => {
    const { port } = defined(troubled[0]);
    await ask(port, ["ACL", "SETUSER", "default", "resetkeys", "~other:*"]);
    try {
      const nodes = await new Redlock(theirs, { nodeTimeout: NODE_TIMEOUT_MS }).inspect(fresh());
      expect(nodes.map(({ ok }) => ok)).toEqual([false, true, true]);
      expect(defined(defined(nodes[0]).error).message).toMatch(/^NOPERM/);
      expect(defined(nodes[0]).resources).toEqual([]);
    } finally {
      await ask(port, ["ACL", "SETUSER", "default", "allkeys"]);
    }
  });
});

describe("a lock's data", () => {
  test("are its version, resources, value, expiration, ttl and key prefix, and no more", async () => {
    const prefixed = new Redlock(clients, { keyPrefix: "app:", nodeTimeout: NODE_TIMEOUT_MS });
    const [a, b] = [fresh(), fresh()];
    const lock = await prefixed.acquire([a, b], 60_000);
    const { value, expiration } = lock;
    const data = { version: 1, resources: [a, b], value, expiration, ttl: 60_000 };
    expect(lock.toJSON()).toEqual({ ...data, keyPrefix: "app:" });
    expect(inTransit(lock)).toEqual(lock.toJSON());
    await lock.release();
    expect(inTransit(lock).expiration).toBe(0);
  });
});

describe("adopt", () => {
  test("gives at once a lock that is not valid yet, and sends nothing", async () => {
    const lock = await redlock.acquire([fresh(), fresh()], 60_000);
    await Promise.all(lock.attempts);
    const before = clients.map(({ sent }) => sent.length);
    const adopter = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS });
    const adopted = adopter.adopt(inTransit(lock));
    expect(adopted).toBeInstanceOf(Lock);
    expect(adopted).not.toBe(lock);
    expect(adopted.redlock).toBe(adopter);
    expect(adopted.resources).toEqual(lock.resources);
    expect(adopted.value).toBe(lock.value);
    expect(adopted.ttl).toBe(60_000);
    expect(adopted.expiration).toBe(lock.expiration);
    expect(adopted.attempts).toEqual([]);
    expect(adopted.remaining).toBe(0);
    expect(adopted.valid).toBe(false);
    expect(clients.map(({ sent }) => sent.length)).toEqual(before);
    await lock.release();
  });

  test("gives one that its first successful extend makes valid, in place", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    await withAnother(async (another) => {
      const adopted = another.adopt(inTransit(lock));
      const before = Date.now();
      expect(await adopted.extend(600_000)).toBe(adopted);
      expect(adopted.valid).toBe(true);
      expect(adopted.remaining).toBeGreaterThan(500_000);
      expect(adopted.remaining).toBeLessThanOrEqual(600_000 - 6002);
      expect(adopted.expiration).toBeGreaterThanOrEqual(before + 600_000 - 6002);
      expect(adopted.expiration).toBeLessThanOrEqual(Date.now() + 600_000 - 6002);
      expect(adopted.ttl).toBe(600_000);
      expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(lock.value));
      // It is the same lock, and so the one who handed it on may still extend and release it.
      await lock.extend(60_000);
      // Answered behind the extension by every node: one that is extended after the release gets its key again.
      await redlock.inspect(resource);
      await adopted.release();
      expect(adopted.valid).toBe(false);
      expect(adopted.expiration).toBe(0);
    });
    await untilFree(servers, resource);
    expect((await rejection(lock.extend(60_000))).code).toBe("ERR_REDLOCK_QUORUM");
    expect(lock.valid).toBe(false);
  });

  test("gives one that can be released without an extend", async () => {
    const resources = [fresh(), fresh()];
    const lock = await redlock.acquire(resources, 60_000);
    await Promise.all(lock.attempts);
    await withAnother(async (another) => {
      const { attempts } = await another.adopt(inTransit(lock)).release();
      expect(attempts).toHaveLength(1);
      expect((await defined(attempts[0])).votesFor.size).toBeGreaterThanOrEqual(3);
      for (const resource of resources) await untilFree(servers, resource);
    });
  });

  test("gives one whose release reaches the nodes that were still connecting, too", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    const proxies = await Promise.all(servers.map(({ port }) => startProxy(port)));
    for (const proxy of proxies.slice(3)) proxy.replyDelayMs = 300;
    const another = new Redlock(
      proxies.map(({ url }) => url),
      { nodeTimeout: NODE_TIMEOUT_MS },
    );
    try {
      await another.adopt(inTransit(lock)).release();
      await untilFree(servers, resource);
    } finally {
      await another.quit();
      await Promise.all(proxies.map((proxy) => proxy.close()));
    }
  });

  test("gives one that can be handed on again", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const adopted = redlock.adopt(inTransit(lock));
    expect(inTransit(adopted)).toEqual(inTransit(lock));
    const third = redlock.adopt(inTransit(adopted));
    await third.extend(60_000);
    expect(third.valid).toBe(true);
    expect(adopted.valid).toBe(false);
    await third[Symbol.asyncDispose]();
    await untilFree(servers, resource);
  });

  test("works in another process", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    const script = `
      import { Redlock } from "./src/index.ts";
      const [nodes, json] = JSON.parse(process.env.REDLOCK_TEST);
      const redlock = new Redlock(nodes, { nodeTimeout: ${NODE_TIMEOUT_MS} });
      const lock = redlock.adopt(JSON.parse(json));
      const before = [lock.valid, lock.remaining];
      await lock.extend(600_000);
      console.log(JSON.stringify([...before, lock.valid, lock.value]));
      await redlock.quit();
    `;
    const { stdout } = await promisify(execFile)(process.execPath, programs.args(script), {
      cwd: root,
      timeout: 30_000,
      env: {
        ...process.env,
        NODE_OPTIONS: "",
        REDLOCK_TEST: JSON.stringify([servers.map(({ url }) => url), JSON.stringify(lock)]),
      },
    });
    expect(JSON.parse(stdout)).toEqual([false, 0, true, lock.value]);
    const pttls = await Promise.all(servers.map(({ port }) => ask(port, ["PTTL", resource])));
    expect(pttls.filter((pttl) => Number(pttl) > 500_000).length).toBeGreaterThanOrEqual(3);
    await lock.release();
    await untilFree(servers, resource);
  });

  test("takes no validity from the data, whatever expiration they state", async () => {
    const lock = await redlock.acquire(fresh(), 60_000);
    for (const expiration of [Date.now() + 3_600_000, Number.MAX_SAFE_INTEGER, 0, -1]) {
      const adopted = redlock.adopt({ ...inTransit(lock), expiration });
      expect(adopted.valid).toBe(false);
      expect(adopted.remaining).toBe(0);
    }
    await lock.release();
  });

  test("of a lock that others hold by now is refused at the first extend, and harms nobody", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    const data = inTransit(lock);
    await lock.release();
    const theirs = await redlock.acquire(resource, 60_000);
    await Promise.all(theirs.attempts);
    await withAnother(async (another) => {
      const adopted = another.adopt(data);
      const error = await rejection(adopted.extend(600_000));
      expect(error).toBeInstanceOf(ExecutionError);
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.message).toContain("holds this lock no longer");
      expect(adopted.valid).toBe(false);
      expect(adopted.remaining).toBe(0);
      expect(adopted.expiration).toBe(0);
      // Lost is final.
      const again = await rejection(adopted.extend(600_000));
      expect(again.code).toBe("ERR_REDLOCK_EXPIRED");
      await adopted.release();
      // Nor does a release that comes first.
      await another.adopt(data).release();
    });
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(theirs.value));
    for (const { port } of servers) {
      expect(Number(await ask(port, ["PTTL", resource]))).toBeLessThanOrEqual(60_000);
    }
    await theirs.release();
  });

  test("of a lock that has expired by now is refused at the first extend, and locks nothing", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 1000);
    const data = inTransit(lock);
    await untilFree(servers, resource);
    const adopted = redlock.adopt(data);
    expect((await rejection(adopted.extend(60_000))).code).toBe("ERR_REDLOCK_QUORUM");
    expect(adopted.valid).toBe(false);
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(null));
  });

  test("of a lock that only a majority still holds is extended there, and gives the others theirs again", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    await Promise.all(servers.slice(0, 2).map(({ port }) => ask(port, ["DEL", resource])));
    const adopted = redlock.adopt(inTransit(lock));
    await adopted.extend(60_000);
    expect(adopted.valid).toBe(true);
    await until(
      async () => (await valuesOn(servers, resource)).every((value) => value === lock.value),
      5000,
      () => "the others were not given it again",
    );
    await adopted.release();
    await untilFree(servers, resource);
  });

  test("outlives an extend that no quorum answered: the next one may succeed", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 600_000);
    await Promise.all(lock.attempts);
    const adopted = redlock.adopt(inTransit(lock));
    const silent = servers.slice(0, 3);
    await Promise.all(silent.map((server) => server.freeze()));
    try {
      const settings = { nodeTimeout: 200, retryCount: 1, retryDelay: 10 };
      const error = await rejection(redlock.extend(adopted, 60_000, settings));
      expect(error.code).toBe("ERR_REDLOCK_QUORUM");
      expect(error.message).toContain("no answer");
      expect(adopted.valid).toBe(false);
      expect(adopted.remaining).toBe(0);
    } finally {
      for (const server of silent) server.thaw();
    }
    await Promise.all(clients.map((client) => client.ping()));
    await until(
      async () => {
        await adopted.extend(60_000).catch(() => undefined);
        return adopted.valid;
      },
      10_000,
      () => "the lock could not be extended when the nodes were back",
    );
    await adopted.release();
    await untilFree(servers, resource);
  });

  test("of a value that was tampered with extends and releases nothing", async () => {
    const resource = fresh();
    const lock = await redlock.acquire(resource, 60_000);
    await Promise.all(lock.attempts);
    const forged = redlock.adopt({ ...inTransit(lock), value: "0".repeat(32) });
    expect((await rejection(forged.extend(60_000))).code).toBe("ERR_REDLOCK_QUORUM");
    await redlock.adopt({ ...inTransit(lock), value: "0".repeat(32) }).release();
    expect(await valuesOn(servers, resource)).toEqual(Array(5).fill(lock.value));
    await lock.release();
  });
});

describe("adopt throws", () => {
  const good: LockJson = {
    version: 1,
    resources: ["resource"],
    value: "0123456789abcdef0123456789abcdef",
    expiration: 1_700_000_000_000,
    ttl: 60_000,
    keyPrefix: "",
  };

  function thrownBy(json: unknown): unknown {
    try {
      redlock.adopt(json as LockJson);
    } catch (error) {
      return error;
    }
    throw new Error("adopt() took it");
  }

  const rows: [string, unknown, string][] = [
    ["text that is not parsed", JSON.stringify(good), "JSON.parse"],
    ["undefined", undefined, "lock.toJSON()"],
    ["null", null, "lock.toJSON()"],
    ["an empty object", {}, "version"],
    ["an array", [good], "version"],
    ["no version", { ...good, version: undefined }, "version 1"],
    ["a later version", { ...good, version: 2 }, "version 1 of a lock's data, but this has 2"],
    ["a version that is a text", { ...good, version: "1" }, "version 1"],
    ["no resources", { ...good, resources: undefined }, "The resources of adopt()"],
    ["empty resources", { ...good, resources: [] }, "The resources of adopt() are empty"],
    ["an empty resource", { ...good, resources: ["a", ""] }, "number 2"],
    ["a resource that is no text", { ...good, resources: [5] }, "number 1"],
    ["no value", { ...good, value: undefined }, "the lock's value"],
    ["an empty value", { ...good, value: "" }, "the lock's value"],
    ["a value that is no text", { ...good, value: 5 }, "the lock's value"],
    ["no expiration", { ...good, expiration: undefined }, "expiration"],
    ["an expiration that was no number", { ...good, expiration: null }, "expiration"],
    ["an expiration that is a text", { ...good, expiration: "soon" }, "expiration"],
    ["no ttl", { ...good, ttl: undefined }, "The ttl of adopt() is undefined"],
    ["a ttl that was no number", { ...good, ttl: null }, "The ttl of adopt() is null"],
    ["a ttl that is a text", { ...good, ttl: "60000" }, "The ttl of adopt()"],
    ["a fraction as its ttl", { ...good, ttl: 1.5 }, "The ttl of adopt() is 1.5"],
    ["no key prefix", { ...good, keyPrefix: undefined }, "keyPrefix"],
    ["another key prefix", { ...good, keyPrefix: "app:" }, "keyPrefix"],
    ["a key prefix that is no text", { ...good, keyPrefix: 5 }, "keyPrefix"],
  ];

  test.each(rows)("a TypeError for %s", (_, json, says) => {
    const error = thrownBy(json);
    expect(error).toBeInstanceOf(TypeError);
    expect(error).toMatchObject({ code: "ERR_REDLOCK_INVALID_ARGUMENT" });
    expect((error as Error).message).toContain("adopt()");
    expect((error as Error).message).toContain(says);
  });

  test.each([0, 2, -60_000, 2 ** 53])("a RangeError for a ttl of %d", (ttl) => {
    const error = thrownBy({ ...good, ttl });
    expect(error).toBeInstanceOf(RangeError);
    expect(error).toMatchObject({ code: "ERR_REDLOCK_INVALID_ARGUMENT" });
    expect((error as Error).message).toContain(`The ttl of adopt() is ${ttl}`);
  });

  test("for a lock of another key prefix, in either direction, and takes one of its own", async () => {
    await withAnother(
      async (prefixed) => {
        const resource = fresh();
        const lock = await prefixed.acquire(resource, 60_000);
        expect(() => redlock.adopt(inTransit(lock))).toThrow("keyPrefix");
        expect(() => prefixed.adopt(good)).toThrow("keyPrefix");
        const adopted = prefixed.adopt(inTransit(lock));
        await adopted.extend(60_000);
        expect(adopted.valid).toBe(true);
        await adopted.release();
        await untilFree(servers, `app:${resource}`);
      },
      { keyPrefix: "app:" },
    );
  });

  test("nothing for what it is given untouched", () => {
    expect(redlock.adopt(good).toJSON()).toEqual(good);
  });
});
