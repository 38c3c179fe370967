import { describe, expect, it } from "@jest/globals";
import { played, type Client, type Stage } from "../../virtual-world/stage.js";

const ALL = [0, 1, 2, 3, 4];
/** A round trip on the stage. */
const ROUND_TRIP_MS = 2;

function slowDown({ links }: Client, indexes: readonly number[], extraMs: number): void {
  for (const index of indexes) {
    const link = links[index];
    if (link !== undefined) link.extraDelayMs = extraMs;
  }
}

function forgetScripts({ servers }: Stage, indexes: readonly number[]): void {
  for (const index of indexes) servers[index]?.execute("script", ["FLUSH"]);
}

describe("after a grant, every node that can be asked is given the key", () => {
  it(
    "though it was still connecting when the others had decided",
    played(async (stage) => {
      const client = stage.client();
      slowDown(client, [3, 4], 20);
      const lock = await client.redlock.acquire("r", 10_000);
      expect(stage.holders("r", lock.value)).toEqual([0, 1, 2]);
      // Connecting takes 42 ms, the key's way to the node 21 ms.
      await stage.sleep(42 + 21 + 1 - stage.nowMs);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      expect(Math.max(...stage.remainingMs("r"))).toBeLessThanOrEqual(10_000);
      await lock.release();
      await stage.sleep(50);
      expect(stage.holders("r", lock.value)).toEqual([]);
    }),
  );

  it(
    "so that the lock survives the loss of one of the nodes that decided",
    played(async (stage) => {
      const client = stage.client({ retryCount: 0 });
      slowDown(client, [3, 4], 20);
      const lock = await client.redlock.acquire("r", 10_000);
      await stage.sleep(100);
      stage.freeze([0]);
      slowDown(client, [3, 4], 0);
      await lock.extend(10_000);
      expect(lock.valid).toBe(true);
    }),
  );

  it.each([
    ["of a lock of several resources", ["r", "s"], {}],
    ["of a fenced lock", ["r"], { fencing: true }],
  ])("though it had not cached the script: %s", (_, resources, settings) =>
    played(async (stage) => {
      const client = await stage.connect({ ...settings, retryCount: 0 });
      forgetScripts(stage, [3, 4]);
      slowDown(client, [3, 4], 3);
      const lock = await client.redlock.acquire(resources, 10_000);
      expect(stage.holders("r", lock.value)).toEqual([0, 1, 2]);
      // Of several keys, the batch that gives them is not cached either.
      await stage.sleep(3 * (ROUND_TRIP_MS + 6));
      for (const resource of resources) {
        expect(stage.holders(resource, lock.value)).toEqual(ALL);
      }
      await lock.extend(10_000);
      await lock.release();
      await stage.sleep(20);
      for (const resource of resources) expect(stage.holders(resource, lock.value)).toEqual([]);
    })(),
  );

  it(
    "though it had not cached the script of a batch",
    played(async (stage) => {
      const client = await stage.connect({ retryCount: 0 });
      const { redlock } = client;
      const before = await redlock.acquire("q", 10_000);
      forgetScripts(stage, [3, 4]);
      slowDown(client, [3, 4], 3);
      const [lock] = await Promise.all([redlock.acquire("r", 10_000), before.release()]);
      await stage.sleep(2 * (ROUND_TRIP_MS + 6));
      expect(stage.holders("r", lock.value)).toEqual(ALL);
    }),
  );

  it(
    "of a thousand locks that were acquired while it was down",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0, nodeTimeout: 500 });
      stage.crash([4]);
      await stage.sleep(10);
      const names = Array.from({ length: 1000 }, (_, index) => `r${index}`);
      const locks = await Promise.all(names.map((name) => redlock.acquire(name, 60_000)));
      await stage.restart([4]);
      await stage.sleep(3000);
      const given = locks.filter(({ resources: [name = ""], value }) =>
        stage.holders(name, value).includes(4),
      );
      expect(given).toHaveLength(1000);
    }),
  );

  it(
    "as soon as a node that was down or silent is back",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0, nodeTimeout: 50 });
      stage.crash([3]);
      stage.freeze([4], 300);
      await stage.sleep(10);
      const lock = await redlock.acquire("r", 10_000);
      // It fell silent for an earlier operation: nothing was sent to it.
      const later = await redlock.acquire("s", 10_000);
      await stage.sleep(100);
      const atSilence = await redlock.acquire("t", 10_000);
      expect(stage.holders("t", atSilence.value)).toEqual([0, 1, 2]);
      await stage.sleep(300);
      expect(stage.holders("t", atSilence.value)).toEqual([0, 1, 2, 4]);
      for (const server of stage.servers) if (server.down) server.restart(true);
      await stage.sleep(600);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      expect(stage.holders("s", later.value)).toEqual(ALL);
      expect(stage.holders("t", atSilence.value)).toEqual(ALL);
      expect(Math.max(...stage.remainingMs("t"))).toBeLessThanOrEqual(10_000);
    }),
  );

  it(
    "not where the lock was released before the node was back",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0 });
      stage.crash([3]);
      await stage.sleep(10);
      const lock = await redlock.acquire("r", 10_000);
      await lock.release();
      for (const server of stage.servers) if (server.down) server.restart(true);
      await stage.sleep(1000);
      expect(stage.holders("r", lock.value)).toEqual([]);
      expect(stage.questions("set").filter(({ node }) => node === 3)).toEqual([]);
    }),
  );

  it(
    "also where the restart guard holds the node back: it is no vote",
    played(async (stage) => {
      const { redlock } = await stage.connect({ retryCount: 0, restartGuard: 5000 });
      await (await redlock.acquire("q", 1000)).release();
      await stage.restart([3]);
      await stage.sleep(60);
      await (await redlock.acquire("q", 1000)).release();
      const lock = await redlock.acquire("r", 3000);
      await stage.sleep(ROUND_TRIP_MS);
      expect(stage.holders("r", lock.value)).toEqual(ALL);
      const [attempt] = lock.attempts;
      expect((await attempt)?.votesFor.size).toBe(4);
    }),
  );

  it(
    "also where the holder before had not released it yet",
    played(async (stage) => {
      const { redlock: first, ...before } = await stage.connect();
      const lock = await first.acquire("r", 10_000);
      const { redlock } = await stage.connect({ retryDelay: 5, retryJitter: 0 });
      const next = redlock.acquire("r", 10_000);
      slowDown(before as Client, [3, 4], 8);
      await lock.release();
      const { value } = await next;
      await stage.sleep(8 + 3 * ROUND_TRIP_MS);
      expect(stage.holders("r", value)).toEqual(ALL);
    }),
  );

  it(
    "though it hands the lock over to the waiter after it refused it",
    played(async (stage) => {
      const holder = await stage.connect({ queue: true });
      const first = await holder.redlock.acquire("r", 10_000);
      const waiter = await stage.connect({ queue: true, retryCount: -1, retryDelay: 5000 });
      const given = waiter.redlock.acquire("r", 10_000);
      const next = await stage.connect({ queue: true, retryCount: -1, retryDelay: 5000 });
      await stage.sleep(50);
      const over = new AbortController();
      const waiting = next.redlock
        .acquire("r", 10_000, { signal: over.signal })
        .catch(() => undefined);
      await stage.sleep(50);
      // The release comes to two nodes just after the waiter's attempt.
      slowDown(holder, [3, 4], 3);
      await first.release();
      const { value } = await given;
      await stage.sleep(10);
      expect(stage.holders("r", value)).toEqual(ALL);
      over.abort();
      await waiting;
    }),
  );

  it(
    "and no node is asked a second time where all voted for it",
    played(async (stage) => {
      const { redlock } = await stage.connect();
      await redlock.acquire("r", 10_000);
      await stage.sleep(1000);
      expect(stage.questions("set")).toHaveLength(5);
    }),
  );
});

describe("after an extension", () => {
  it(
    "a node that was not asked in time is asked again, for what is left of the ttl",
    played(async (stage) => {
      const client = await stage.connect();
      const lock = await client.redlock.acquire("r", 1000);
      forgetScripts(stage, [3, 4]);
      slowDown(client, [3, 4], 3);
      await lock.extend(5000);
      await stage.sleep(3 * (ROUND_TRIP_MS + 6));
      expect(Math.min(...stage.remainingMs("r"))).toBeGreaterThan(4900);
      expect(Math.max(...stage.remainingMs("r"))).toBeLessThanOrEqual(5000);
    }),
  );
});
