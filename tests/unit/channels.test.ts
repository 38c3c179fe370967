import { execFile } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "@jest/globals";
import {
  type Lock,
  NodeError,
  type RedlockMessages,
  type RedlockTraces,
  ResourceLockedError,
} from "../../src/index.js";
import { rejection } from "../support/nodes.js";
import { until } from "../support/servers.js";
import { useMemoryNodes } from "../support/use-memory-nodes.js";
import { Programs } from "../support/programs.js";

const programs = new Programs("./src/testing/index.ts");

const root = join(import.meta.dirname, "..", "..");
const TTL_MS = 60_000;
const VERBS = ["acquire", "extend", "release", "using", "lead"] as const;
const EVENTS = ["start", "end", "asyncStart", "asyncEnd", "error"] as const;

let ends: (() => void)[] = [];

afterEach(() => {
  for (const end of ends) end();
  ends = [];
});

const { nodes, client } = useMemoryNodes();

/** Collects what is published on a plain channel until the test ends. */
function collect<Name extends keyof RedlockMessages>(name: Name): RedlockMessages[Name][] {
  const messages: RedlockMessages[Name][] = [];
  const onMessage = (message: unknown): void => {
    messages.push(message as RedlockMessages[Name]);
  };
  subscribe(name, onMessage);
  ends.push(() => unsubscribe(name, onMessage));
  return messages;
}

/** Notes the events of all tracing channels until the test ends, in words. */
function trace(): string[] {
  const heard: string[] = [];
  for (const verb of VERBS) {
    for (const event of EVENTS) {
      const name = `tracing:redlock-quorum:${verb}:${event}`;
      const onMessage = (): void => {
        heard.push(`${verb} ${event}`);
      };
      subscribe(name, onMessage);
      ends.push(() => unsubscribe(name, onMessage));
    }
  }
  return heard;
}

/** Keeps the messages of a tracing channel's event. */
function messagesOf<Name extends keyof RedlockTraces>(
  name: Name,
  event: (typeof EVENTS)[number],
): RedlockTraces[Name][] {
  const messages: RedlockTraces[Name][] = [];
  const onMessage = (message: unknown): void => {
    messages.push(message as RedlockTraces[Name]);
  };
  subscribe(`tracing:${name}:${event}`, onMessage);
  ends.push(() => unsubscribe(`tracing:${name}:${event}`, onMessage));
  return messages;
}

const settled = (verb: string): string[] =>
  ["start", "end", "asyncStart", "asyncEnd"].map((event) => `${verb} ${event}`);

describe("the tracing channels", () => {
  test("tell of each acquisition, extension and release", async () => {
    const redlock = client();
    const heard = trace();
    const lock = await redlock.acquire("a", TTL_MS);
    expect(heard.splice(0)).toEqual(settled("acquire"));
    await lock.extend(TTL_MS);
    expect(heard.splice(0)).toEqual(settled("extend"));
    await lock.release();
    expect(heard.splice(0)).toEqual(settled("release"));
  });

  test("tell of a using around its acquisition and its release", async () => {
    const redlock = client();
    const heard = trace();
    expect(await redlock.using("a", TTL_MS, () => 7)).toBe(7);
    expect(heard.filter((event) => /:?(?: start| asyncEnd)$/.test(event))).toEqual([
      "using start",
      "acquire start",
      "acquire asyncEnd",
      "release start",
      "release asyncEnd",
      "using asyncEnd",
    ]);
  });

  test.each(EVENTS)("tell of `%s` when nobody listens to the others", async (event) => {
    const heard = VERBS.map((verb) => messagesOf(`redlock-quorum:${verb}`, event));
    const lock = await client().acquire("a", TTL_MS);
    await lock.extend(TTL_MS);
    await lock.release();
    const redlock = client();
    await redlock.using("a", TTL_MS, () => undefined);
    const failing = redlock.using("a", TTL_MS, () => {
      throw new Error("it fails");
    });
    expect((await rejection(failing)).message).toBe("it fails");
    const isOfFailures = event === "error";
    const counts = isOfFailures ? [0, 0, 0, 1, 0] : [3, 1, 3, 2, 0];
    expect(heard.map(({ length }) => length)).toEqual(counts);
    expect((heard[3]?.at(-1)?.error as Error | undefined)?.message).toBe(
      ["error", "asyncStart", "asyncEnd"].includes(event) ? "it fails" : undefined,
    );
  });

  test("tell of each term of a leader, from its election to its release", async () => {
    const redlock = client();
    const heard = trace();
    const [began, ended] = [
      messagesOf("redlock-quorum:lead", "start"),
      messagesOf("redlock-quorum:lead", "asyncEnd"),
    ];
    let terms = 0;
    const done = await redlock.lead("a", TTL_MS, { maxHold: 20 }, async (signal) => {
      terms += 1;
      if (terms === 2) return 7;
      await once(signal, "abort");
      return undefined;
    });
    expect(done).toBe(7);
    const term = ["acquire start", "acquire asyncEnd", "lead start", "release start"];
    const whole = [...term, "release asyncEnd", "lead asyncEnd"];
    expect(heard.filter((event) => /(?: start| asyncEnd)$/.test(event))).toEqual([
      ...whole,
      ...whole,
    ]);
    expect(began).toEqual(ended);
    expect(ended).toHaveLength(2);
    expect(ended[0]).toMatchObject({ resources: ["a"], ttl: TTL_MS, attempts: 1 });
    expect(ended[0]?.error).toMatchObject({ code: "ERR_REDLOCK_LOST", reason: "expired" });
    expect(ended[1]?.result).toBe(7);
    expect(ended[1]?.lock.resources).toEqual(["a"]);
  });

  test("describe an acquisition, with the lock as its result", async () => {
    const redlock = client({ owner: "api-7" });
    const [began, ended] = [
      messagesOf("redlock-quorum:acquire", "start"),
      messagesOf("redlock-quorum:acquire", "asyncEnd"),
    ];
    const lock = await redlock.acquire(["a", "b"], TTL_MS);
    expect(began).toEqual(ended);
    expect(began[0]).toBe(ended[0]);
    expect(ended[0]).toMatchObject({
      resources: ["a", "b"],
      ttl: TTL_MS,
      owner: "api-7",
      attempts: 1,
      isWaiting: false,
      position: undefined,
    });
    expect(ended[0]?.result).toBe(lock);
    expect(ended[0]?.elapsedMs).toBeGreaterThan(0);
  });

  test("have null as the result of tryAcquire for a lock that others hold, and no error", async () => {
    await client().acquire("a", TTL_MS);
    const heard = trace();
    const ended = messagesOf("redlock-quorum:acquire", "asyncEnd");
    expect(await client().tryAcquire("a", TTL_MS)).toBeNull();
    expect(heard).toEqual(settled("acquire"));
    expect(ended[0]?.result).toBeNull();
    expect(ended[0]?.error).toBeUndefined();
  });

  test("have the error that the caller gets", async () => {
    await client().acquire("a", TTL_MS);
    const ended = messagesOf("redlock-quorum:acquire", "error");
    const error = await rejection(client().acquire("a", TTL_MS, { acquireTimeout: 100 }));
    expect(error.reason).toBe("held");
    expect(ended.map((message) => message.error)).toEqual([error]);
  });

  test("do not tell of a call with invalid input, which sends nothing", async () => {
    const heard = trace();
    await rejection(client().acquire("a", -1));
    expect(heard).toEqual([]);
  });

  test("show while a call waits that it does, and its place in the queue", async () => {
    const held = await client().acquire("a", TTL_MS);
    const waiting = messagesOf("redlock-quorum:acquire", "start");
    const redlock = client();
    const calls = [redlock.acquire("a", TTL_MS), redlock.acquire("a", TTL_MS)];
    const positions = (): unknown[] => waiting.map(({ position }) => position);
    await until(
      () => String(positions()) === "1,2",
      5000,
      () => `positions are ${String(positions())}`,
    );
    expect(waiting.map(({ isWaiting }) => isWaiting)).toEqual([true, true]);
    await held.release();
    const first = await calls[0];
    expect(waiting[0]).toMatchObject({ isWaiting: false, position: undefined });
    await first?.release();
    await (await calls[1])?.release();
    expect(waiting.map(({ isWaiting }) => isWaiting)).toEqual([false, false]);
  });

  test("tell the extensions by the library from those of calls", async () => {
    const redlock = client();
    const ended = messagesOf("redlock-quorum:extend", "asyncEnd");
    // Soon extended, and not lost soon on a busy machine.
    const settings = { autoExtend: true, automaticExtensionThreshold: 4500 };
    const lock = await redlock.acquire("a", 5000, settings);
    await until(
      () => ended.length > 0,
      5000,
      () => "it was not extended",
    );
    await lock.extend(TTL_MS);
    expect(ended[0]).toMatchObject({ isAutomatic: true, resources: ["a"], ttl: 5000 });
    expect(ended.at(-1)).toMatchObject({ isAutomatic: false, ttl: TTL_MS });
    expect(new Set(ended.map((message) => message.lock))).toEqual(new Set([lock]));
    expect(ended.map((message) => message.error)).toEqual(ended.map(() => undefined));
    await lock.release();
  });

  test("have the lock of a release, which has ended when the call returns", async () => {
    const lock = await client().acquire("a", TTL_MS);
    const wasValid: boolean[] = [];
    const note = (message: unknown): void => {
      wasValid.push((message as { lock: Lock }).lock.valid);
    };
    for (const event of ["start", "end"]) {
      subscribe(`tracing:redlock-quorum:release:${event}`, note);
      ends.push(() => unsubscribe(`tracing:redlock-quorum:release:${event}`, note));
    }
    await lock.release();
    expect(wasValid).toEqual([true, false]);
  });

  // In a process of its own, since Jest takes the uncaught exceptions of its own.
  test("leave a call as it is if a subscriber throws", async () => {
    const program = `
      import { subscribe } from "node:diagnostics_channel";
      import { Redlock } from "./src/index.ts";
      import { memoryNodes } from "./src/testing/index.ts";
      const uncaught = [];
      process.on("uncaughtException", ({ message }) => uncaught.push(message));
      const events = ["start", "end", "asyncStart", "asyncEnd"];
      for (const event of events) {
        subscribe("tracing:redlock-quorum:acquire:" + event, () => { throw new Error(event); });
      }
      const lock = await new Redlock(memoryNodes(5)).acquire("a", 60_000);
      setImmediate(() => console.log(JSON.stringify([lock.valid, uncaught])));
    `;
    const { stdout } = await promisify(execFile)(process.execPath, programs.args(program), {
      cwd: root,
    });
    expect(JSON.parse(stdout)).toEqual([true, ["start", "end", "asyncStart", "asyncEnd"]]);
  });
});

describe("redlock-quorum:lost", () => {
  test("has what the event has, and who held which resources", async () => {
    const redlock = client({ owner: "api-7" });
    const messages = collect("redlock-quorum:lost");
    const events: unknown[] = [];
    redlock.on("lost", (event) => events.push(event));
    const lock = await redlock.acquire(["a", "b"], 200);
    await new Promise((resolve) => {
      lock.signal.addEventListener("abort", resolve);
    });
    expect(messages).toEqual([
      {
        lock,
        error: lock.signal.reason as Error,
        isPassedOn: false,
        resources: ["a", "b"],
        ttl: 200,
        owner: "api-7",
        reason: "expired",
      },
    ]);
    await until(
      () => events.length === 1,
      5000,
      () => "no event",
    );
    expect(messages[0]).toMatchObject(events[0] as object);
  });

  test("says `closed` for a lock that is held when its Redlock closes", async () => {
    const redlock = client();
    const messages = collect("redlock-quorum:lost");
    await redlock.acquire("a", TTL_MS, { autoExtend: true });
    await redlock.quit();
    expect(messages.map(({ reason }) => reason)).toEqual(["closed"]);
  });

  test("says that a lock was passed on, which another process may still hold", async () => {
    const redlock = client();
    const messages = collect("redlock-quorum:lost");
    const lock = await redlock.acquire("a", 200);
    const adopted = client().adopt(lock.toJSON());
    await adopted.extend(TTL_MS);
    await until(
      () => !lock.valid,
      5000,
      () => "the lock does not end",
    );
    expect(messages.map(({ isPassedOn }) => isPassedOn)).toEqual([true]);
    await adopted.release();
  });
});

describe("redlock-quorum:vote", () => {
  test("tells each node that others hold the lock", async () => {
    await client().acquire("a", TTL_MS);
    const votes = collect("redlock-quorum:vote");
    await client().tryAcquire("a", TTL_MS);
    await until(
      () => votes.length === 5,
      5000,
      () => `${votes.length} votes`,
    );
    expect(new Set(votes.map(({ kind }) => kind))).toEqual(new Set(["held"]));
    expect(new Set(votes.map(({ node }) => node)).size).toBe(5);
    expect(votes.every(({ reason }) => reason instanceof ResourceLockedError)).toBe(true);
  });

  test("tells a node that is down from one that does not reply", async () => {
    const redlock = client({ nodeTimeout: 50, retryCount: 0 });
    await redlock.using("a", TTL_MS, () => undefined);
    nodes[0].kill();
    nodes[1].freeze();
    const votes = collect("redlock-quorum:vote");
    const kinds = (port: number): string[] =>
      votes.filter(({ node }) => node.endsWith(`:${port}`)).map(({ kind }) => kind);
    const lock = await redlock.acquire("a", TTL_MS);
    await until(
      () => kinds(1).length > 0 && kinds(2).length > 0,
      5000,
      () => JSON.stringify(votes),
    );
    expect([new Set(kinds(1)), new Set(kinds(2)), kinds(3)]).toEqual([
      new Set(["down"]),
      new Set(["timeout"]),
      [],
    ]);
    await lock.release();
  });

  test("and redlock-quorum:node tell that the restart guard holds a node back, the latter once", async () => {
    const redlock = client();
    await redlock.using("a", TTL_MS, () => undefined);
    nodes[0].restart();
    const votes = collect("redlock-quorum:vote");
    const told = collect("redlock-quorum:node");
    const isHeldBack = (): boolean => votes.filter(({ kind }) => kind === "held-back").length >= 3;
    await until(
      async () => {
        await redlock.using("a", TTL_MS, () => undefined);
        return isHeldBack();
      },
      5000,
      () => JSON.stringify(votes),
    );
    const holds = told.filter(({ state }) => state === "held-back");
    expect(holds).toHaveLength(1);
    expect(holds[0]).toMatchObject({ node: expect.stringMatching(/:1$/) as unknown });
    expect(holds[0] && "reason" in holds[0] && holds[0].reason.message).toContain("restarted");
  });
});

describe("redlock-quorum:node", () => {
  test("tells once that a node is down, and once that it is up again", async () => {
    const redlock = client({ nodeTimeout: 50 });
    await redlock.using("a", TTL_MS, () => undefined);
    const told = collect("redlock-quorum:node");
    nodes[2].freeze();
    for (let turn = 0; turn < 3; turn++) await redlock.using("a", TTL_MS, () => undefined);
    await until(
      () => told.length > 0,
      5000,
      () => "nothing was told",
    );
    await nodes[2].thaw();
    await until(
      () => told.length === 2,
      5000,
      () => JSON.stringify(told),
    );
    const [down, up] = told;
    expect(down).toMatchObject({ state: "down", node: expect.stringMatching(/:3$/) as unknown });
    expect(down?.state === "down" && down.reason instanceof NodeError).toBe(true);
    expect(up).toMatchObject({ state: "up", node: down?.node });
    expect(up?.state === "up" && up.downMs > 0).toBe(true);
  });
});

describe("redlock-quorum:waiting", () => {
  test("tells of a call that waits, and of no other, and its message is live", async () => {
    const redlock = client({ owner: "api-7" });
    const waiting = collect("redlock-quorum:waiting");
    const lock = await redlock.acquire("a", TTL_MS);
    expect(await redlock.tryAcquire("a", TTL_MS)).toBeNull();
    expect(waiting).toEqual([]);
    const call = redlock.acquire("a", TTL_MS);
    await until(
      () => waiting[0]?.position === 1,
      5000,
      () => JSON.stringify(waiting),
    );
    expect(waiting).toHaveLength(1);
    expect(waiting[0]).toMatchObject({ resources: ["a"], ttl: TTL_MS, owner: "api-7" });
    expect(waiting[0]).toMatchObject({ attempts: 1, isWaiting: true });
    await lock.release();
    await (await call).release();
    expect(waiting[0]).toMatchObject({ isWaiting: false, position: undefined });
  });
});

describe("redlock-quorum:hand-over", () => {
  test("tells which nodes told a waiter that it is next", async () => {
    const held = await client().acquire("a", TTL_MS);
    const messages = collect("redlock-quorum:hand-over");
    const waiting = messagesOf("redlock-quorum:acquire", "start");
    const redlock = client();
    const call = redlock.acquire("a", TTL_MS);
    await until(
      async () => (await redlock.holder("a"))?.waiters === 1,
      5000,
      () => `it is not in the queue: ${String(waiting[0]?.position)}`,
    );
    expect(messages).toEqual([]);
    await held.release();
    await (await call).release();
    expect(new Set(messages.map(({ node }) => node)).size).toBeGreaterThanOrEqual(3);
    for (const message of messages) {
      expect(message.resources).toEqual(["a"]);
      expect(message.waitedMs).toBeGreaterThan(0);
    }
  });
});
