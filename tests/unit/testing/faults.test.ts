import { beforeEach, describe, expect, test } from "@jest/globals";
import { type MemoryNode, memoryNodes } from "../../../src/testing/index.js";
import { rejection } from "../../support/nodes.js";

let node: MemoryNode;

beforeEach(() => {
  [node] = memoryNodes(1);
});

/** Every reply that needs no timer is there after this. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** What has become of a promise by now. */
async function outcomeOf(promise: Promise<unknown>): Promise<unknown> {
  return Promise.race([promise, turn().then(() => "pending")]);
}

describe("freeze", () => {
  test("keeps commands, which the server executes in their order when it goes on", async () => {
    node.freeze();
    const replies = [
      node.call("set", "a", "1", "NX", "PX", 1000),
      node.call("set", "a", "2", "NX", "PX", 1000),
      node.call("get", "a"),
    ];
    expect(await outcomeOf(Promise.race(replies))).toBe("pending");
    expect(node.status).toBe("ready");
    await node.thaw();
    expect(await Promise.all(replies)).toEqual(["OK", null, "1"]);
  });

  test("lets the server execute commands of a client that has given up", async () => {
    const other = node.duplicate();
    await other.connect();
    node.freeze();
    const reply = other.call("set", "a", "1");
    other.disconnect();
    expect((await rejection(reply)).message).toBe("Connection is closed.");
    await node.thaw();
    expect(await node.call("get", "a")).toBe("1");
  });

  test("lets nobody connect before the server goes on", async () => {
    node.freeze();
    const other = node.duplicate();
    expect(await outcomeOf(other.call("ping"))).toBe("pending");
    expect(other.status).toBe("connecting");
    await node.thaw();
    expect(await other.call("ping")).toBe("PONG");
  });

  test("does not stop the clock: a lock expires meanwhile", async () => {
    await node.call("set", "a", "1", "PX", 1);
    node.freeze();
    const reply = node.call("get", "a");
    const startMs = Date.now();
    while (Date.now() < startMs + 3) await turn();
    await node.thaw();
    expect(await reply).toBeNull();
  });

  test("of a killed server is an error of the test", () => {
    node.kill();
    expect(() => {
      node.freeze();
    }).toThrow(/^freeze: memory(-\d+)?:1 was killed, so nothing can be frozen\. Call restart/);
  });
});

describe("kill", () => {
  test("breaks every connection, and lets nobody connect before restart", async () => {
    const events: string[] = [];
    for (const event of ["ready", "close"] as const) node.on(event, () => events.push(event));
    node.on("error", ({ message }) => events.push(message));
    node.freeze();
    const reply = node.call("get", "a");
    node.kill();
    expect((await rejection(reply)).message).toBe("Connection is closed.");
    expect((await rejection(node.call("get", "a"))).message).toBe("Connection is closed.");
    const other = node.duplicate();
    await turn();
    expect([node.status, other.status]).toEqual(["reconnecting", "reconnecting"]);
    node.restart();
    expect([node.status, other.status]).toEqual(["ready", "ready"]);
    expect(events).toEqual([
      "close",
      expect.stringMatching(/^connect ECONNREFUSED memory(-\d+)?:1$/),
      "ready",
    ]);
    expect(await other.call("ping")).toBe("PONG");
  });

  test("loses what a frozen server had not read", async () => {
    node.freeze();
    const reply = node.call("set", "a", "1").catch(() => "lost");
    node.kill();
    node.restart();
    expect(await reply).toBe("lost");
    expect(await node.call("get", "a")).toBeNull();
  });

  test("without a listener for errors harms nobody", () => {
    expect(() => {
      node.kill();
      node.kill();
    }).not.toThrow();
  });
});

describe("restart", () => {
  async function runId(): Promise<string | undefined> {
    return /run_id:(\w+)/.exec(String(await node.call("info", "server")))?.[1];
  }

  test("keeps the data, with another run id and without the scripts", async () => {
    await node.call("set", "a", "1");
    const sha1 = String(await node.call("script", "load", "return 1"));
    const before = await runId();
    node.restart();
    expect(await node.call("get", "a")).toBe("1");
    expect(await node.call("script", "exists", sha1)).toEqual([0]);
    expect(await runId()).toMatch(/^[0-9a-f]{40}$/);
    expect(await runId()).not.toBe(before);
    expect(await node.call("info")).toContain("uptime_in_seconds:0\r\n");
  });

  test("with `empty` loses the data", async () => {
    await node.call("set", "a", "1");
    node.restart({ empty: true });
    expect(await node.call("get", "a")).toBeNull();
  });

  test("ends the subscriptions", async () => {
    const subscriber = node.duplicate();
    const heard: string[] = [];
    subscriber.on("message", (channel, message) => heard.push(`${channel}: ${message}`));
    await subscriber.subscribe("größe");
    expect(await node.call("publish", "größe", "one")).toBe(1);
    await turn();
    node.restart();
    expect(await node.call("publish", "größe", "two")).toBe(0);
    await turn();
    expect(heard).toEqual(["größe: one"]);
  });
});

test("forget deletes one key of one node", async () => {
  await node.call("set", "a", "1");
  await node.call("set", "größe", "1");
  expect(node.forget("größe")).toBe(true);
  expect(node.forget("größe")).toBe(false);
  expect([await node.call("get", "a"), await node.call("get", "größe")]).toEqual(["1", null]);
});

describe("delay", () => {
  test("makes a round trip take so long, without a change of order", async () => {
    const order: string[] = [];
    const startMs = performance.now();
    node.delay(20);
    const slow = node.call("set", "a", "1").then(() => order.push("slow"));
    node.delay(0);
    const next = node.call("get", "a").then((value) => order.push(`next ${String(value)}`));
    await Promise.all([slow, next]);
    // A timer may fire up to a millisecond early.
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(9);
    expect(order).toEqual(["slow", "next 1"]);
  });

  test.each([-1, NaN, Infinity])("refuses %p", (ms) => {
    expect(() => {
      node.delay(ms);
    }).toThrow(
      new RangeError(
        `delay: ms is ${ms}, but must be a finite number of at least 0. Pass milliseconds.`,
      ),
    );
  });
});

describe("a connection", () => {
  test("that has ended rejects, and can be opened again", async () => {
    const other = node.duplicate();
    await other.connect();
    expect(await other.quit()).toBe("OK");
    expect(other.status).toBe("end");
    other.disconnect();
    expect((await rejection(other.call("ping"))).message).toBe("Connection is closed.");
    await other.connect();
    expect(await other.call("ping")).toBe("PONG");
  });

  test("that ends receives no more messages", async () => {
    const subscriber = node.duplicate();
    const heard: string[] = [];
    subscriber.on("message", (_, message) => heard.push(message));
    await subscriber.subscribe("a");
    void node.call("publish", "a", "one");
    subscriber.disconnect();
    expect(await node.call("publish", "a", "two")).toBe(0);
    await turn();
    expect(heard).toEqual([]);
  });

  test("gives an error reply the name by which the library knows it", async () => {
    expect(await rejection(node.call("nonsense"))).toMatchObject({
      name: "ReplyError",
      message: "ERR unknown command 'nonsense'",
    });
  });
});
