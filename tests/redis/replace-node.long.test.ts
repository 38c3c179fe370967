// "Replace a node" of docs/operations.md: its steps on real servers, and what happens without one of the steps. Its
// argument is in tests/unit/quorum/replaced-node.test.ts.

import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { setTimeout as sleep } from "node:timers/promises";
import { type Lock, Redlock, type RedlockSettings } from "../../src/index.js";
import { defined, fresh, rejection } from "../support/nodes.js";
import { freePorts, type RedisServer, startServer, stopAll, until } from "../support/servers.js";

/** The longest ttl that anybody uses here. */
const TTL_MS = 6000;
/** INFO gives the uptime in whole seconds, so the library takes a server to be up to so much younger than it is. */
const UPTIME_SLACK_MS = 2000;

let servers: RedisServer[] = [];
let redlocks: Redlock[] = [];
/** Nobody listens there: what is behind a network that is cut. */
let cut: string[] = [];

beforeEach(async () => {
  servers = await Promise.all(["A", "B", "C", "D", "E"].map(() => startServer()));
  cut = (await freePorts(2)).map((port) => `redis://127.0.0.1:${port}`);
});

afterEach(async () => {
  await Promise.all(redlocks.map((redlock) => redlock.quit()));
  redlocks = [];
  await stopAll(servers);
});

/** Waits until the nodes are older than every lock. Before, a process takes them for a new deployment, whose nodes all vote. */
const untilOld = (): Promise<void> => sleep(TTL_MS + UPTIME_SLACK_MS + 1000);

const urlOf = (letter: string): string => defined(servers["ABCDEF".indexOf(letter)]).url;

/** Starts a new, empty server as the next one in the order of the letters. */
async function startNext(): Promise<void> {
  servers.push(await startServer());
}

/** A process with this list of nodes, which cannot reach those in small letters. */
function processWith(list: string, settings: RedlockSettings = {}): Redlock {
  let cutOff = 0;
  const urls = list
    .split("")
    .map((letter) => (/[A-F]/.test(letter) ? urlOf(letter) : defined(cut[cutOff++])));
  const redlock = new Redlock(urls, { retryCount: 0, nodeTimeout: 1000, ...settings });
  redlocks.push(redlock);
  return redlock;
}

const tries = (redlock: Redlock, resource: string): Promise<Lock | undefined> =>
  redlock.acquire(resource, TTL_MS).catch(() => undefined);

/** Acquires as soon as the nodes let it, and checks that the earlier lock has ended by then. */
async function acquiresAfter(redlock: Redlock, resource: string, earlier: Lock): Promise<void> {
  let next: Lock | undefined;
  await until(
    async () => {
      next = await tries(redlock, resource);
      if (next !== undefined && earlier.valid) throw new Error("Two hold the lock.");
      return next !== undefined;
    },
    4 * TTL_MS + UPTIME_SLACK_MS,
    () => "the lock never becomes free",
  );
  await next?.release();
}

describe("a node that is replaced under a new address", () => {
  test("keeps the exclusion if it is stopped first, and the new list comes after the longest ttl", async () => {
    const resource = fresh();
    // One side of the network has A and B, the other one C and D; the old node is the third vote.
    const holder = await processWith("ABcdE").acquire(resource, TTL_MS);
    // 1. Stop the old node for good.
    await defined(servers[4]).stop();
    expect((await rejection(holder.extend(TTL_MS))).reason).toBe("unavailable");
    // A lock that is taken now has its votes among the others.
    expect(await tries(processWith("abCDE"), resource)).toBeUndefined();
    // 2. Wait for the longest ttl.
    await sleep(TTL_MS);
    expect(holder.valid).toBe(false);
    // 3. Start the new node, and roll out the list. Without the restart guard, it votes at once.
    await startNext();
    const next = await processWith("abCDF", { restartGuard: false }).acquire(resource, TTL_MS);
    expect(await tries(processWith("ABcDE"), resource)).toBeUndefined();
    await next.release();
  });

  test("lets two hold the lock if the old node runs on", async () => {
    const resource = fresh();
    const holder = await processWith("ABcdE").acquire(resource, TTL_MS);
    await startNext();
    const other = await processWith("abCDF", { restartGuard: false }).acquire(resource, TTL_MS);
    expect([holder.valid, other.valid]).toEqual([true, true]);
  });

  test("lets two hold the lock if nobody waits, unless the restart guard is on", async () => {
    const resource = fresh();
    await untilOld();
    const holder = await processWith("ABcdE").acquire(resource, TTL_MS);
    await defined(servers[4]).stop();
    await startNext();
    const guarded = processWith("abCDF");
    expect(await tries(guarded, resource)).toBeUndefined();
    const other = await processWith("abCDF", { restartGuard: false }).acquire(resource, TTL_MS);
    expect([holder.valid, other.valid]).toEqual([true, true]);
    await other.release();
    await acquiresAfter(guarded, resource, holder);
  });

  test("is noticed by nobody who takes turns under the lock while the list is rolled out", async () => {
    const resource = fresh();
    let [inside, most, turns] = [0, 0, 0];
    let isOver = false;
    const works = async (redlock: Redlock, isDone: () => boolean): Promise<void> => {
      while (!isDone()) {
        await redlock.using(resource, TTL_MS, { retryCount: -1 }, async () => {
          inside += 1;
          most = Math.max(most, inside);
          await sleep(5);
          inside -= 1;
          turns += 1;
        });
      }
    };
    const stopped = new Set<number>();
    const old = [0, 1, 2].map((index) => works(processWith("ABCDE"), () => stopped.has(index)));
    await until(
      () => turns > 5,
      10_000,
      () => "no turn",
    );
    await defined(servers[4]).stop();
    await sleep(TTL_MS);
    await startNext();
    const next: Promise<void>[] = [];
    for (const [index, process] of old.entries()) {
      stopped.add(index);
      await process;
      next.push(works(processWith("ABCDF"), () => isOver));
      const before = turns;
      await until(
        () => turns > before + 5,
        30_000,
        () => "nobody takes turns any more",
      );
    }
    isOver = true;
    await Promise.all(next);
    expect(most).toBe(1);
  });
});

describe("a node that is replaced under its address", () => {
  /** Puts another server at the address of E: a proxy or a DNS name that leads elsewhere from now on. */
  async function replaceE(next: () => Promise<RedisServer>): Promise<void> {
    const [old] = servers.splice(4, 1);
    await old?.stop();
    servers.push(await next());
  }

  test("does not vote until every lock that counted on the old one has ended", async () => {
    const resource = fresh();
    await untilOld();
    const holder = await processWith("ABcdE").acquire(resource, TTL_MS);
    const known = processWith("abCDE");
    await known.using(fresh(), TTL_MS, () => undefined);
    const port = defined(servers[4]).port;
    await replaceE(() => startServer({ port }));
    expect(await tries(known, resource)).toBeUndefined();
    const late = processWith("abCDE");
    expect(await tries(late, resource)).toBeUndefined();
    expect(holder.valid).toBe(true);
    await Promise.all([known, late].map((redlock) => acquiresAfter(redlock, resource, holder)));
  });

  test("lets two hold the lock without the restart guard", async () => {
    const resource = fresh();
    const holder = await processWith("ABcdE").acquire(resource, TTL_MS);
    const port = defined(servers[4]).port;
    await replaceE(() => startServer({ port }));
    const other = await processWith("abCDE", { restartGuard: false }).acquire(resource, TTL_MS);
    expect([holder.valid, other.valid]).toEqual([true, true]);
  });

  test("lets two hold the lock if the new server has run for long: a process that starts now cannot know", async () => {
    const resource = fresh();
    const spare = await startServer();
    await untilOld();
    const holder = await processWith("ABcdE").acquire(resource, TTL_MS);
    await replaceE(() => Promise.resolve(spare));
    const late = await processWith("abCDE").acquire(resource, TTL_MS);
    expect([holder.valid, late.valid]).toEqual([true, true]);
  });
});
