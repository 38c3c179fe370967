import { afterEach, describe, expect, test } from "@jest/globals";
import { ask, type RedisServer, startServers, stopAll, until } from "../support/servers.js";
import { type Lock, Redlock, type RedlockSettings } from "../../src/index.js";
import { fieldsOf } from "../../src/nodes/restart-guard.js";
import { defined, fresh, rejection } from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";

/** Long enough that a busy machine restarts servers and asks them within it. */
const TTL_MS = 5000;
/** Beyond a ttl and the 2 s by which an uptime may be wrong. */
const OLD_S = TTL_MS / 1000 + 3;
const NODE_TIMEOUT_MS = 1000;

const servers = useServers(5);
let opened: Redlock[] = [];

afterEach(async () => {
  await Promise.all(opened.map((redlock) => redlock.quit()));
  opened = [];
});

/** Another client of all servers, as another process has it. */
function client(settings: RedlockSettings = {}, of = servers): Redlock {
  const urls = of.map(({ url }) => url);
  const redlock = new Redlock(urls, { nodeTimeout: NODE_TIMEOUT_MS, retryCount: 0, ...settings });
  opened.push(redlock);
  return redlock;
}

/** One that is connected to every server and has used the ttl. */
async function connected(settings?: RedlockSettings): Promise<Redlock> {
  const redlock = client(settings);
  // A node that is connected after the others have decided abstains, and is not met by that.
  await until(
    async () => {
      const lock = await redlock.acquire(fresh(), TTL_MS);
      const { votesFor } = await defined(lock.attempts[0]);
      await lock.release();
      return votesFor.size === servers.length;
    },
    10_000,
    () => "a node does not vote",
  );
  return redlock;
}

async function untilAllAreOld(): Promise<void> {
  await until(
    async () => {
      const infos = await Promise.all(servers.map(({ port }) => ask(port, ["INFO", "server"])));
      return infos.every((info) => Number(fieldsOf(info)["uptime_in_seconds"]) >= OLD_S);
    },
    30_000,
    () => "the servers do not grow old",
  );
}

/** Without their data, since they keep none. */
async function restart(these: readonly RedisServer[]): Promise<void> {
  await Promise.all(these.map((server) => server.kill()));
  await Promise.all(these.map((server) => server.restart()));
}

async function untilReached(redlock: Redlock): Promise<void> {
  await until(
    async () => (await redlock.inspect("r")).every(({ ok }) => ok),
    10_000,
    () => "a node did not come back",
  );
}

/** Waits for the next lock on the resource; gives whether the holder's was over by then. */
async function next(redlock: Redlock, resource: string, holder: Lock): Promise<boolean> {
  const lock = await redlock.acquire(resource, TTL_MS, { retryCount: -1, retryDelay: 50 });
  const isOver = !holder.valid;
  await lock.release();
  return isOver;
}

describe("with three of five nodes restarted empty under a lock", () => {
  test("nobody who was connected acquires before its end, and somebody does after it", async () => {
    const [holding, other] = [await connected(), await connected()];
    const resource = fresh();
    const holder = await holding.acquire(resource, TTL_MS);
    await restart(servers.slice(0, 3));
    await untilReached(other);
    const error = await rejection(other.acquire(resource, TTL_MS));
    expect(holder.valid).toBe(true);
    expect(error.message).toMatch(/restarted or was replaced .* ago: its votes count again in/);
    const [isOver, isOverForItself] = await Promise.all([
      next(other, resource, holder),
      next(holding, resource, holder),
    ]);
    expect([isOver, isOverForItself]).toEqual([true, true]);
  });

  test("nobody who starts after it with restartGuard acquires before its end, and somebody does after it", async () => {
    await untilAllAreOld();
    const holding = await connected({ restartGuard: TTL_MS });
    const resource = fresh();
    const holder = await holding.acquire(resource, TTL_MS);
    await restart(servers.slice(0, 3));
    const late = client({ restartGuard: TTL_MS });
    const error = await rejection(late.acquire(resource, TTL_MS));
    expect(error.message).toMatch(/started .* ago: its votes count again in/);
    expect(holder.valid).toBe(true);
    expect(await next(late, resource, holder)).toBe(true);
  });
});

describe("with one of five nodes restarted empty under a lock of three", () => {
  test("nobody who starts after it acquires before its end", async () => {
    await untilAllAreOld();
    const resource = fresh();
    const holder = await (await connected()).acquire(resource, TTL_MS);
    await holder.attempts[0];
    for (const { port } of servers.slice(3)) await ask(port, ["DEL", resource]);
    await restart(servers.slice(2, 3));
    const late = client();
    const error = await rejection(late.acquire(resource, TTL_MS));
    expect(holder.valid).toBe(true);
    expect(error.message).toMatch(/started .* ago: its votes count again in/);
    expect(await next(late, resource, holder)).toBe(true);
  });

  test("inspect says which, and until when", async () => {
    await untilAllAreOld();
    const redlock = await connected();
    await restart(servers.slice(0, 1));
    await untilReached(redlock);
    const [restarted, ...others] = await redlock.inspect("r");
    const { heldBackUntil } = defined(restarted);
    expect(defined(heldBackUntil) - Date.now()).toBeLessThanOrEqual(TTL_MS);
    expect(defined(heldBackUntil) - Date.now()).toBeGreaterThan(0);
    for (const other of others) expect(other).not.toHaveProperty("heldBackUntil");
    const lock = await redlock.acquire(fresh(), TTL_MS);
    const { votesAgainst } = await defined(lock.attempts[0]);
    expect([...votesAgainst.values()].map(({ message }) => message)).toEqual([
      expect.stringMatching(/^restarted or was replaced .* ago: its votes count again in/),
    ]);
  });
});

describe("a fresh deployment", () => {
  test.each([1, 3, 5])("of %i nodes is used at once", async (count) => {
    const young = await startServers(count);
    try {
      const lock = await client({}, young).acquire(fresh(), 60_000);
      expect(lock.valid).toBe(true);
    } finally {
      await stopAll(young);
    }
  });

  test("is used at once where it refuses INFO, whatever restartGuard is", async () => {
    const young = await startServers(3);
    try {
      for (const { port } of young) await ask(port, ["ACL", "SETUSER", "default", "-info"]);
      await client({ restartGuard: 60_000 }, young).acquire(fresh(), 60_000);
    } finally {
      await stopAll(young);
    }
  });
});
