import { beforeEach, expect, test } from "@jest/globals";
import type { Redlock } from "../../../src/index.js";
import { leaveScript } from "../../../src/operations/leave.js";
import { queueKeysOf } from "../../../src/waiting/queue-keys.js";
import { rejection } from "../../support/nodes.js";
import { until } from "../../support/servers.js";
import { useMemoryNodes } from "../../support/use-memory-nodes.js";

const TTL_MS = 60_000;
/** Longer than it takes the other nodes to decide, and far below a node's timeout. */
const LATE_MS = 50;
/** No further attempt of the waiter makes up for a place that it lacks. */
const NO_RETRY = { retryCount: -1, retryDelay: 40_000, retryJitter: 0 };
/** Also on a busy machine, the late node replies in time. */
const PATIENT = { nodeTimeout: 10_000 };

const { nodes, client } = useMemoryNodes();
let waiting: Redlock;

/** The waiter listens, and knows the clocks of the nodes: so it joins at once. */
beforeEach(async () => {
  waiting = client({ ...NO_RETRY, ...PATIENT });
  const lock = await client().acquire("before", TTL_MS);
  const next = waiting.acquire("before", TTL_MS);
  await untilWaiting("before", [1, 1, 1, 1, 1]);
  await lock.release();
  await (await next).release();
  await nodes[0].call("script", "flush");
  nodes[0].delay(LATE_MS);
});

/** How many wait on each node. */
async function waitersOn(resource: string): Promise<number[]> {
  const found = await client(PATIENT).inspect(resource);
  return found.map(({ resources: [of] }) => of?.waiters.length ?? -1);
}

async function untilWaiting(resource: string, counts: readonly number[]): Promise<void> {
  let found: number[] = [];
  await until(
    async () => {
      found = await waitersOn(resource);
      return counts.every((count, index) => found[index] === count);
    },
    2000,
    () => `not ${counts.join(", ")} wait, but ${found.join(", ")}`,
  );
}

test("a waiter joins also on a node that learns the script after the others have decided", async () => {
  const lock = await client().acquire("a", TTL_MS);
  const ending = new AbortController();
  const ended = rejection(waiting.acquire("a", TTL_MS, { signal: ending.signal }));
  try {
    await untilWaiting("a", [1, 1, 1, 1, 1]);
  } finally {
    ending.abort();
    await ended;
    await lock.release();
  }
  await untilWaiting("a", [0, 0, 0, 0, 0]);
});

test("a waiter that has left does not join there", async () => {
  await nodes[0].call("script", "load", leaveScript.text);
  const lock = await client().acquire("a", TTL_MS);
  const ending = new AbortController();
  const ended = rejection(waiting.acquire("a", TTL_MS, { signal: ending.signal }));
  const [, order = ""] = queueKeysOf(["a"]) ?? [];
  // `inspect` would wait for the late node.
  await until(
    async () => (await nodes[1].call("zcard", order)) === 1,
    2000,
    () => "nobody waits on the second node",
  );
  ending.abort();
  await ended;
  await untilWaiting("a", [0, 0, 0, 0, 0]);
  // What was sent after the leave has arrived as well.
  expect(await waitersOn("a")).toEqual([0, 0, 0, 0, 0]);
  await lock.release();
});
