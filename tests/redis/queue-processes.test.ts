import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { ask, type RedisServer, slowness, until } from "../support/servers.js";
import { type Lock, Redlock, type Settings } from "../../src/index.js";
import { cacheQueueScripts, listenersOn, Turns, untilWaiting } from "../support/line.js";
import {
  connectAll,
  defined,
  disconnectAll,
  fresh,
  type RecordingClient,
  untilHeld,
} from "../support/nodes.js";
import { useServers } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";
import { queueKeysOf } from "../../src/waiting/queue-keys.js";

const programs = new Programs();

// Other processes in the line, which die, stop, or end; and nodes that do.

const root = join(import.meta.dirname, "..", "..");
const NO_RETRY = { retryCount: -1, retryDelay: 50_000, retryJitter: 0 };
/** The least for which a key is kept for one who is next. */
const GRACE_MS = 100;
/** What a step may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 400;

let observer: Redlock;
const servers = useServers(5, { beforeStop: () => observer.quit() });
const connected: Redis[] = [];
const processes: ChildProcessByStdio<null, Readable, null>[] = [];

beforeAll(async () => {
  await cacheQueueScripts(servers);
  observer = new Redlock(
    servers.map(({ url }) => url),
    { nodeTimeout: 5000 },
  );
  await observer.inspect(fresh());
});

afterEach(() => {
  disconnectAll(connected.splice(0));
  for (const child of processes.splice(0)) child.kill("SIGKILL");
});

async function another(retries: Settings = NO_RETRY): Promise<Redlock> {
  const clients = await connectAll(servers);
  connected.push(...clients);
  return new Redlock(clients, { nodeTimeout: 5000, ...retries });
}

/** A process of its own, which runs `script` with `urls`, `resource` and the library; gives what it prints. */
async function run(
  resource: string,
  script: string,
): Promise<{ child: (typeof processes)[0]; lines: Lines }> {
  const text = `
    import { Redis } from "ioredis";
    import { Redlock } from "./src/index.ts";
    const { urls, resource } = JSON.parse(process.env.REDLOCK_TEST);
    const endless = ${JSON.stringify({ ...NO_RETRY, nodeTimeout: 5000 })};
    const clients = urls.map((url) => new Redis(url));
    await Promise.all(clients.map((client) => client.ping()));
    const say = (what) => console.log(what, Number(process.hrtime.bigint()) / 1e6);
    say("up");
    ${script}
  `;
  const urls = servers.map(({ url }) => url);
  const child = spawn(process.execPath, programs.args(text), {
    cwd: root,
    env: {
      ...process.env,
      NODE_OPTIONS: "",
      REDLOCK_TEST: JSON.stringify({ urls, resource }),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  processes.push(child);
  const printed = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<[string, number]> => {
    const { value } = (await printed.next()) as { value?: string };
    const [what = "", ms] = defined(value).split(" ");
    return [what, Number(ms)];
  };
  // A busy machine may take long over the start of a process.
  expect((await next())[0]).toBe("up");
  return { child, lines: { next } };
}

interface Lines {
  /** The next line: what happened, and when, in ms. */
  next(): Promise<[string, number]>;
}

/** By the clock that all processes of the machine share: that of `performance` begins with each of them. */
function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

async function killed(child: (typeof processes)[0]): Promise<void> {
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/**
 * Waits until each node can notify so many. A waiter whose subscription opens late stands as one that polls until then:
 * for such a one, dead or not, the key is kept for as long as its retry timer takes.
 */
async function untilSubscribed(resource: string, count: number): Promise<void> {
  const [, , alive = ""] = defined(queueKeysOf([resource]));
  const script = `
    local count = 0
    for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
      local channel = cjson.decode(entry)[3]
      if channel ~= '' then count = count + 1 end
    end
    return count`;
  const subscribedOn = async ({ port }: RedisServer): Promise<number> =>
    Number(await ask(port, ["EVAL", script, "1", alive]));
  await until(
    async () => (await Promise.all(servers.map(subscribedOn))).every((found) => found === count),
    10_000,
    () => `not ${count} can be notified of ${resource}`,
  );
}

/** Everything that takes turns together, `count` each. */
async function takeTurns(
  redlocks: readonly Redlock[],
  resource: string,
  count: number,
): Promise<Turns<number>> {
  const turns = new Turns<number>();
  await Promise.all(
    redlocks.map(async (redlock, index) => {
      for (let turn = 0; turn < count; turn++) {
        await turns.take(index, await redlock.acquire(resource, 30_000), () => undefined);
      }
    }),
  );
  return turns;
}

describe("a process that is killed", () => {
  test("while it holds is followed by the next within its ttl and 50 ms", async () => {
    // Long enough that the next one waits before it has passed.
    const TTL_MS = Math.round(3000 * slowness());
    const resource = fresh();
    const { child, lines } = await run(
      resource,
      `await new Redlock(clients, endless).acquire(resource, ${TTL_MS}); say("held");`,
    );
    const [what, heldMs] = await lines.next();
    expect(what).toBe("held");
    const next = (await another()).acquire(resource, 30_000);
    await untilWaiting(observer, resource, 1);
    await killed(child);
    const lock = await next;
    const followedMs = machineMs() - heldMs;
    expect(followedMs).toBeGreaterThan(TTL_MS - MARGIN_MS);
    expect(followedMs).toBeLessThan(TTL_MS + 50 + MARGIN_MS * slowness());
    await lock.release();
  });

  test("while it waits is passed over, and costs nobody a wait", async () => {
    const DEAD = 40;
    const resource = fresh();
    const lock = await observer.acquire(resource, 60_000);
    const { child } = await run(
      resource,
      `for (let index = 0; index < ${DEAD}; index++) {
         void new Redlock(clients, endless).acquire(resource, 30_000);
       }`,
    );
    await untilWaiting(observer, resource, DEAD);
    await untilSubscribed(resource, DEAD);
    const next = (await another()).acquire(resource, 30_000);
    await untilWaiting(observer, resource, DEAD + 1);
    await untilSubscribed(resource, DEAD + 1);
    await killed(child);
    await until(
      async () => (await Promise.all(servers.map(listenersOn))).every((count) => count === 1),
      5000,
      () => "the dead still listen",
    );
    const releasedMs = performance.now();
    await lock.release();
    const held = await next;
    // Were the key kept for each of them, it would take twice as long at least.
    expect(performance.now() - releasedMs).toBeLessThan((DEAD * GRACE_MS) / 2);
    await held.release();
  });
});

test("a process that is stopped while it waits costs the others one grace, not one each turn", async () => {
  const TURNS = 20;
  const resource = fresh();
  // Nobody is told when the grace is over: those behind ask again by their retry timer.
  const retries = { retryCount: -1, retryDelay: 100, retryJitter: 50 };
  const redlocks = [await another(retries), await another(retries)];
  const timed = async (): Promise<number> => {
    const startMs = performance.now();
    await takeTurns(redlocks, fresh(), TURNS / 2);
    return performance.now() - startMs;
  };
  const beforeMs = await timed();
  const listeners = servers.map(({ port }) => new Redis(port, "127.0.0.1"));
  connected.push(...listeners);
  const channels = async (): Promise<string[]> =>
    (await defined(listeners[0]).pubsub("CHANNELS", "redlock:*")) as string[];
  const ofOthers = await channels();
  const lock = await observer.acquire(resource, 60_000);
  // A node hands over only what it holds.
  await untilHeld(servers, lock);
  const { child } = await run(
    resource,
    `void new Redlock(clients, endless).acquire(resource, 30_000);`,
  );
  await untilWaiting(observer, resource, 1);
  const own = (await channels()).filter((channel) => !ofOthers.includes(channel));
  expect(own).toHaveLength(1);
  const calls = listeners.map(() => 0);
  for (const [index, listener] of listeners.entries()) {
    // An empty message is a probe, which the process sends to itself.
    listener.on("message", (_channel: string, message: string) => {
      if (message !== "") calls[index] = (calls[index] ?? 0) + 1;
    });
    await listener.subscribe(...own);
  }
  const turns = takeTurns(redlocks, resource, TURNS / 2);
  await untilWaiting(observer, resource, 3);
  child.kill("SIGSTOP");
  await until(
    () => readFileSync(`/proc/${defined(child.pid)}/stat`, "utf8").includes(") T "),
    5000,
    () => "the process does not stop",
  );
  const releasedMs = performance.now();
  await lock.release();
  const { order, mostAtOnce } = await turns;
  const tookMs = performance.now() - releasedMs;
  expect(order).toHaveLength(TURNS);
  expect(mostAtOnce).toBe(1);
  expect(tookMs).toBeGreaterThan(GRACE_MS - 20);
  // A busy machine takes longer over the turns themselves.
  const usualMs = Math.max(beforeMs, await timed());
  expect(tookMs).toBeLessThan((TURNS * GRACE_MS) / 2 + 2 * usualMs);
  // Each time that a node notifies it, the others wait for a grace.
  expect(calls).toEqual(servers.map(() => 1));
});

test("a program that waited in line, and quits its own clients, ends by itself", async () => {
  const resource = fresh();
  const { child, lines } = await run(
    resource,
    `const [first, second] = [new Redlock(clients, endless), new Redlock(clients, endless)];
     const lock = await first.acquire(resource, 30_000);
     const next = second.acquire(resource, 30_000);
     let nodes = [];
     while (nodes.length === 0 || nodes.some(({ resources: [{ waiters }] }) => waiters.length === 0)) {
       nodes = await first.inspect(resource);
     }
     say("waits");
     await lock.release();
     await (await next).release();
     await Promise.all(clients.map((client) => client.quit()));
     say("quit");`,
  );
  const exit = once(child, "exit");
  expect((await lines.next())[0]).toBe("waits");
  const [what, quitMs] = await lines.next();
  expect(what).toBe("quit");
  expect(await exit).toEqual([0, null]);
  expect(machineMs() - quitMs).toBeLessThan(2000);
});

test("processes take turns under one lock, each as often as the others", async () => {
  const TURNS = 30;
  const resource = fresh();
  const script = `
    const redlock = new Redlock(clients, endless);
    for (let turn = 0; turn < ${TURNS}; turn++) {
      const lock = await redlock.acquire(resource, 30_000);
      say("from");
      // Until both others are back in line, if they have turns left.
      const endMs = performance.now() + 2000;
      while (turn < ${TURNS - 1} && performance.now() < endMs) {
        const nodes = await redlock.inspect(resource);
        if (nodes.every(({ resources: [line] }) => line.waiters.length === 2)) break;
      }
      say("to");
      await lock.release();
    }`;
  const lock = await observer.acquire(resource, 60_000);
  const all = (await Promise.all([1, 2, 3].map(() => run(resource, script)))).map(
    ({ lines }) => lines,
  );
  await untilWaiting(observer, resource, 3);
  await lock.release();
  const tenures = await Promise.all(
    all.map(async (lines, name) => {
      const own: { name: number; fromMs: number; toMs: number }[] = [];
      for (let turn = 0; turn < TURNS; turn++) {
        const [, fromMs] = await lines.next();
        const [, toMs] = await lines.next();
        own.push({ name, fromMs, toMs });
      }
      return own;
    }),
  );
  const inOrder = tenures.flat().sort((a, b) => a.fromMs - b.fromMs);
  for (const [index, { fromMs }] of inOrder.entries()) {
    expect(fromMs).toBeGreaterThanOrEqual(inOrder[index - 1]?.toMs ?? 0);
  }
  // Nobody has two turns before another had one, but where a busy machine kept that one from coming when called.
  const again = inOrder.filter(({ name }, index) => inOrder[index - 1]?.name === name);
  expect(again.length).toBeLessThan(TURNS / 3);
});

describe.each(["freeze", "kill"] as const)("with two of five nodes gone (%s)", (how) => {
  const clients: RecordingClient[] = [];
  const own = useServers(5, {
    beforeStop: () => {
      disconnectAll(clients);
    },
  });

  beforeAll(() => cacheQueueScripts(own));

  test("those who wait are served in their order", async () => {
    const resource = fresh();
    const redlocks: Redlock[] = [];
    for (let index = 0; index < 6; index++) {
      const theirs = await connectAll(own);
      clients.push(...theirs);
      redlocks.push(new Redlock(theirs, { nodeTimeout: 300, ...NO_RETRY, retryDelay: 300 }));
    }
    const [first, ...others] = redlocks;
    const lock = await defined(first).acquire(resource, 60_000);
    const locks: Promise<Lock>[] = [];
    const wait = async (some: readonly Redlock[]): Promise<void> => {
      for (const one of some) {
        locks.push(one.acquire(resource, 60_000));
        await untilWaiting(defined(first), resource, locks.length);
      }
    };
    await wait(others.slice(0, 3));
    await Promise.all(own.slice(0, 2).map((node) => node[how]()));
    // They come when the nodes are gone already.
    await wait(others.slice(3));
    const turns = new Turns<number>();
    const all = locks.map(async (next, index) => turns.take(index, await next, () => undefined));
    const releasedMs = performance.now();
    await lock.release();
    await Promise.all(all);
    expect(turns.order).toEqual([0, 1, 2, 3, 4]);
    expect(performance.now() - releasedMs).toBeLessThan(5000);
  });
});
