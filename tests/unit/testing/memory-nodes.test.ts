import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeEach, describe, expect, test } from "@jest/globals";
import { type NodeEntry, Redlock } from "../../../src/index.js";
import { type MemoryNode, memoryNodes } from "../../../src/testing/index.js";
import { rejection } from "../../support/nodes.js";
import { slowness, until } from "../../support/servers.js";
import { useMemoryNodes } from "../../support/use-memory-nodes.js";

const TTL_MS = 60_000;

let redlock: Redlock;
const { nodes, client, opened } = useMemoryNodes();

beforeEach(() => {
  redlock = client();
});

async function valuesOf(resource: string): Promise<(string | null | undefined)[]> {
  const found = await redlock.inspect(resource);
  return found.map(({ resources }) => resources[0]?.value);
}

/** A release has ended when a quorum has replied. The others follow in a moment. */
async function untilFree(resource: string): Promise<void> {
  const isFree = async (): Promise<boolean> =>
    (await valuesOf(resource)).every((value) => value === null);
  await until(isFree, 5000, () => `${resource} is still there`);
}

describe("Redlock on nodes in memory", () => {
  test("takes them as it takes a client of ioredis, and names them in messages", async () => {
    const entries: NodeEntry[] = memoryNodes(3);
    const one = new Redlock(entries);
    opened.push(one);
    expect((await one.inspect("a")).map(({ node }) => node)).toEqual(
      [1, 2, 3].map((port) => expect.stringMatching(`^memory(-\\d+)?:${port}$`)),
    );
    const others = await new Redlock(memoryNodes(3)).inspect("a");
    expect(others[0]?.node).not.toBe((await one.inspect("a"))[0]?.node);
  });

  test("elects one leader, and another when that one resigns", async () => {
    const names: string[] = [];
    const resign = new AbortController();
    const { signal } = resign;
    const first = redlock.lead("a", TTL_MS, { signal, fencing: true }, async (told) => {
      names.push("first");
      await once(told, "abort");
    });
    await until(
      () => names.length === 1,
      5000,
      () => "nobody leads",
    );
    const second = client().lead("a", TTL_MS, () => names.push("second"));
    await until(
      async () => (await redlock.holder("a"))?.waiters === 1,
      5000,
      () => "nobody waits",
    );
    resign.abort();
    await Promise.all([first, second]);
    expect(names).toEqual(["first", "second"]);
  });

  test("excludes other clients, and stores the lock on every node", async () => {
    const lock = await redlock.acquire(["a", "größe 😀"], TTL_MS);
    expect(await valuesOf("größe 😀")).toEqual(Array(5).fill(lock.value));
    expect(await client().tryAcquire("a", TTL_MS)).toBeNull();
    await lock.extend(2 * TTL_MS);
    expect(lock.remaining).toBeGreaterThan(TTL_MS);
    await lock.release();
    await untilFree("a");
  });

  test("hands a lock over to waiters of other clients in the order of their calls", async () => {
    const order: string[] = [];
    const lock = await redlock.acquire("a", TTL_MS);
    const waiting: Promise<void>[] = [];
    for (const name of ["first", "second", "third"]) {
      const other = client({ retryDelay: TTL_MS, acquireTimeout: 2 * TTL_MS });
      waiting.push(other.using("a", TTL_MS, () => void order.push(name)));
      let waiters = 0;
      while (waiters < waiting.length) {
        const found = await redlock.inspect("a");
        waiters = Math.min(...found.map(({ resources }) => resources[0]?.waiters.length ?? 0));
      }
      // Each client knows the nodes' clocks to half of a round trip, which may be long on a busy machine.
      await sleep(100 * slowness());
    }
    // No retry timer fires within the test, so the nodes notify them.
    await lock.release();
    await Promise.all(waiting);
    expect(order).toEqual(["first", "second", "third"]);
  });

  test("gives tokens that only grow", async () => {
    const tokens: number[] = [];
    for (let count = 0; count < 3; count++) {
      const lock = await client().acquire("a", TTL_MS, { fencing: true });
      tokens.push(lock.fence ?? 0);
      await lock.release();
      for (const node of nodes.slice(0, 2)) node.restart({ empty: true });
    }
    expect(tokens.every(Boolean)).toBe(true);
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
  });

  test("sends what one turn asks as one command", async () => {
    await redlock.acquire("warm", TTL_MS);
    const calls: string[] = [];
    const entries = memoryNodes(1).map((node) => {
      const call = node.call.bind(node);
      return Object.assign(node, {
        call: (command: string, ...args: (string | number | Buffer)[]) => {
          calls.push(command);
          return call(command, ...args);
        },
      });
    });
    const one = new Redlock(entries);
    opened.push(one);
    await one.acquire("a", TTL_MS);
    calls.length = 0;
    await Promise.all(["b", "c", "d"].map((name) => one.acquire(name, TTL_MS)));
    // The second is the script in full, which the node had not cached.
    expect(calls).toEqual(["evalsha", "eval"]);
  });

  test("adopts a lock of another client", async () => {
    const lock = await redlock.acquire("a", TTL_MS);
    const adopted = client().adopt(lock.toJSON());
    await adopted.extend(TTL_MS);
    expect(adopted.valid).toBe(true);
    await adopted.release();
    await untilFree("a");
  });

  test("finds nothing to remark on their health", async () => {
    await redlock.acquire("a", TTL_MS);
    // A round trip is slow above a tenth of it: that of a busy machine must not be.
    const health = await client({ nodeTimeout: 60_000 }).health();
    expect(health.map(({ findings }) => findings)).toEqual(Array(5).fill([]));
    expect(health[0]).toMatchObject({
      reachable: true,
      role: "master",
      evictionPolicy: "noeviction",
      persistence: "append-only file, fsync always",
    });
    expect(new Set(health.map(({ runId }) => runId)).size).toBe(5);
  });

  test("counts their votes at once, also with a guard time of its own", async () => {
    const lock = await client({ restartGuard: 3_600_000 }).acquire("a", TTL_MS);
    expect((await lock.attempts[0])?.votesFor.size).toBe(5);
  });

  test("closes, and leaves the nodes open for the next one", async () => {
    const first = new Redlock(nodes);
    const lock = await first.acquire("a", TTL_MS);
    const waiting = first.acquire("a", TTL_MS, { retryCount: -1 }).catch((error: unknown) => error);
    await first.quit();
    expect(await waiting).toMatchObject({ code: "ERR_REDLOCK_CLOSED" });
    expect((await rejection(first.acquire("b", TTL_MS))).code).toBe("ERR_REDLOCK_CLOSED");
    const second = new Redlock(nodes);
    opened.push(second);
    expect(await second.tryAcquire("a", TTL_MS)).toBeNull();
    await second.release(second.adopt(lock.toJSON()));
    expect((await second.acquire("a", TTL_MS)).valid).toBe(true);
  });

  test("closes while a node is frozen and another is killed, which are there for the next one", async () => {
    const first = new Redlock(nodes, { nodeTimeout: 50 });
    nodes[0].freeze();
    nodes[1].kill();
    const lock = await first.acquire("a", TTL_MS);
    await lock.release();
    await first.quit();
    await nodes[0].thaw();
    nodes[1].restart();
    const second = new Redlock(nodes, { restartGuard: false });
    opened.push(second);
    // Not "a": like a real server, the frozen one has still to execute what was sent to it.
    const { attempts } = await second.acquire("b", TTL_MS);
    expect((await attempts[0])?.votesFor.size).toBe(5);
  });

  test("lets timers of the test fire while a loop of calls is under way", async () => {
    const timer = new AbortController();
    setTimeout(() => {
      timer.abort();
    }, 1);
    const isOver = (): boolean => timer.signal.aborted;
    while (!isOver()) await redlock.inspect("a");
    expect(isOver()).toBe(true);
  });
});

describe("memoryNodes", () => {
  test.each([0, -1, 1.5, NaN, 101, "3", undefined])("refuses a count of %p", (count) => {
    expect(() => memoryNodes(count as number)).toThrow(RangeError);
    expect(() => memoryNodes(count as number)).toThrow(
      `memoryNodes: the count is ${String(count)}, but must be a whole number from 1 to 100`,
    );
  });

  test("gives nodes that do not know of one another", async () => {
    const [first, second] = memoryNodes(2);
    await first.call("set", "a", "1");
    expect(await second.call("get", "a")).toBeNull();
    expect(await first.call("GET", Buffer.from("a"))).toBe("1");
  });

  test("has a type that knows how many there are", () => {
    const three: [MemoryNode, MemoryNode, MemoryNode] = memoryNodes(3);
    const some: MemoryNode[] = memoryNodes(three.length as number);
    // @ts-expect-error there is no fourth
    expect(three[3]).toBeUndefined();
    expect(some).toHaveLength(3);
  });
});
