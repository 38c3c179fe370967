import { beforeAll, describe, expect, test } from "@jest/globals";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ExecutionError, Redlock, type Settings } from "../../src/index.js";
import { defined, fresh, occupy, rejection } from "../support/nodes.js";
import { slowness, until } from "../support/servers.js";
import { useServersAndClients } from "../support/use-servers.js";
import { Programs } from "../support/programs.js";

const programs = new Programs();

const root = join(import.meta.dirname, "..", "..");
const TTL_MS = 60_000;
/** Each kind of call with each way to wait, on clients that are connected and on some that still connect. */
const TRIALS = 40;
/** Long, so that a busy machine fails no vote. */
const PATIENT_MS = 5000;
/** Frozen nodes cost each of the first calls this much. */
const IMPATIENT_MS = 500;
const OWNER = "api-7/4211";
const HELD_VALUE = `0123456789abcdef0123456789abcdef ${OWNER}`;

/** A busy machine needs longer for as many attempts as tell why one fails. */
const ACQUIRE_TIMEOUT_MS = Math.ceil(1000 * slowness());

/** How callers wait; each situation is tried with each of them in turn. */
const WAYS: readonly Settings[] = [
  { retryCount: 0 },
  { retryCount: 0, queue: false },
  { retryCount: 2, retryDelay: 20, retryJitter: 10 },
  { retryCount: 2, retryDelay: 20, retryJitter: 10, queue: false },
  { acquireTimeout: 0 },
  { acquireTimeout: 0, queue: false },
  { acquireTimeout: ACQUIRE_TIMEOUT_MS },
  { acquireTimeout: ACQUIRE_TIMEOUT_MS, queue: false },
];

interface Situation {
  readonly name: string;
  readonly reason: "held" | "unavailable";
  /** The indexes of five nodes. */
  readonly held: readonly number[];
  readonly hung?: readonly number[];
  readonly dead?: readonly number[];
}

const ALL = [0, 1, 2, 3, 4];

const SITUATIONS: readonly Situation[] = [
  { name: "everybody says that it is held", reason: "held", held: ALL },
  { name: "it is held, and one node hangs", reason: "held", held: ALL, hung: [1] },
  { name: "it is held, and two nodes are dead", reason: "held", held: ALL, dead: [0, 3] },
  {
    name: "half of the nodes hold it, half are dead",
    reason: "held",
    held: [0, 1, 2],
    dead: [3, 4],
  },
  { name: "two hold it, two are dead, one is free", reason: "held", held: [0, 1], dead: [3, 4] },
  { name: "a majority hangs", reason: "unavailable", held: [], hung: [0, 1, 2] },
  { name: "it is held, but a majority hangs", reason: "unavailable", held: ALL, hung: [2, 3, 4] },
  { name: "a majority is dead", reason: "unavailable", held: [], dead: [0, 2, 4] },
  { name: "two hold it, and three are dead", reason: "unavailable", held: [0, 1], dead: [2, 3, 4] },
  { name: "all are dead", reason: "unavailable", held: [], dead: ALL },
  {
    name: "one hangs, and two are dead",
    reason: "unavailable",
    held: [4],
    hung: [0],
    dead: [1, 2],
  },
];

/** Says how a call failed. `tryAcquire` resolves with null if others hold the lock. */
async function reasonOf(call: Promise<unknown>): Promise<string> {
  try {
    return (await call) === null ? "held" : "acquired";
  } catch (error) {
    if (!(error instanceof ExecutionError)) return String(error);
    return error.resources.length === 1 ? error.reason : "names no resource";
  }
}

describe.each(SITUATIONS)("the reason while $name", ({ reason, held, hung = [], dead = [] }) => {
  const { servers, clients } = useServersAndClients(5);
  // Patient on a busy machine, unless a node that hangs has to time out before the round is decided.
  const isDecidedByTimeout = hung.length > 0 && hung.length + dead.length > 2;
  const nodeTimeout = isDecidedByTimeout ? IMPATIENT_MS : PATIENT_MS;
  const resources = Array.from({ length: TRIALS }, () => fresh());

  beforeAll(async () => {
    const holding = held.map((index) => defined(servers[index]));
    await Promise.all(resources.map((resource) => occupy(holding, resource, HELD_VALUE)));
    for (const index of dead) await defined(servers[index]).kill();
    for (const index of hung) await defined(servers[index]).freeze();
  });

  test(`is "${reason}" in ${TRIALS} of ${TRIALS}, for each way to wait`, async () => {
    const batches = Array.from({ length: TRIALS / 20 }, async (_, batch) => {
      // Every other one has just been made: its connections are still opening.
      const isNew = batch % 2 === 1;
      const nodes = isNew ? servers.map(({ url }) => url) : clients;
      // The servers are young, so that the guard would hold them back while the others are gone.
      const redlock = new Redlock(nodes, { nodeTimeout, restartGuard: false });
      const calls = resources.slice(batch * 20, (batch + 1) * 20).map((resource, index) => {
        const way = WAYS[index % WAYS.length];
        if (index % 10 === 0) return redlock.tryAcquire(resource, TTL_MS);
        if (index % 10 === 1) return redlock.using(resource, TTL_MS, way ?? {}, () => "ran");
        return redlock.acquire(resource, TTL_MS, way);
      });
      const reasons = await Promise.all(calls.map(reasonOf));
      if (isNew) await redlock.quit();
      return reasons;
    });
    const reasons = (await Promise.all(batches)).flat();
    expect(reasons).toEqual(Array(TRIALS).fill(reason));
  });
});

describe("what an error says", () => {
  const { servers, clients } = useServersAndClients(3);

  test("names the resource, its holder, and for how long it is held", async () => {
    const resource = fresh();
    const holder = new Redlock(clients, { owner: OWNER, nodeTimeout: PATIENT_MS });
    const lock = await holder.acquire(resource, TTL_MS);
    const other = new Redlock(clients, { nodeTimeout: PATIENT_MS, retryCount: 0 });
    const error = await rejection(other.acquire(resource, TTL_MS));
    expect(error).toMatchObject({ reason: "held", resources: [resource] });
    expect(error.message).toMatch(
      new RegExp(`${resource} is held by ${OWNER} for another [\\d.]+ s\\.`),
    );
    await lock.release();
  });

  test("is closed for a closed Redlock, and expired for a lock that is lost or released", async () => {
    const redlock = new Redlock(
      servers.map(({ url }) => url),
      { nodeTimeout: PATIENT_MS },
    );
    const lock = await redlock.acquire(fresh(), TTL_MS);
    await lock.release();
    expect(await rejection(lock.extend(TTL_MS))).toMatchObject({
      code: "ERR_REDLOCK_EXPIRED",
      reason: "expired",
      resources: lock.resources,
    });
    const short = await redlock.acquire(fresh(), 100);
    await until(
      () => !short.valid,
      5000,
      () => "the lock does not end",
    );
    expect(await rejection(short.extend(TTL_MS))).toMatchObject({ reason: "expired" });
    await redlock.quit();
    expect(await rejection(redlock.acquire(fresh(), TTL_MS))).toMatchObject({
      code: "ERR_REDLOCK_CLOSED",
      reason: "closed",
    });
  });

  test("has the code of every other acquireTimeout also for an acquireTimeout of 0", async () => {
    const resource = fresh();
    await occupy(servers, resource, HELD_VALUE);
    const redlock = new Redlock(clients, { nodeTimeout: PATIENT_MS });
    for (const acquireTimeout of [0, 200]) {
      const error = await rejection(redlock.acquire(resource, TTL_MS, { acquireTimeout }));
      expect(error).toMatchObject({ code: "ERR_REDLOCK_TIMEOUT", reason: "held" });
    }
  });
});

describe("an error that nobody catches", () => {
  const { servers } = useServersAndClients(3);

  /** Runs a program that fails, and returns what it printed. */
  async function printedBy(work: string): Promise<string> {
    const program = `
      import { Redlock } from "./src/index.ts";
      const redlock = new Redlock(JSON.parse(process.env.REDLOCK_TEST), { nodeTimeout: 5000 });
      ${work}
    `;
    const urls = JSON.stringify(servers.map(({ url }) => url));
    const env = { ...process.env, NODE_OPTIONS: "", REDLOCK_TEST: urls };
    const ended = await promisify(execFile)(process.execPath, programs.args(program), {
      cwd: root,
      env,
    }).catch((error: unknown) => error as { code: number; stdout: string; stderr: string });
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    return ended.stderr;
  }

  test.each([
    ["of one attempt", `await redlock.acquire("held", 5000, { retryCount: 0 });`],
    [
      "of a hundred attempts",
      `await redlock.acquire("held", 5000, { queue: false, retryCount: 100, retryDelay: 1 });`,
    ],
    ["of a waiter", `await redlock.acquire("held", 5000, { acquireTimeout: 4000 });`],
  ])("prints fewer than 15 lines: an ExecutionError %s", async (_, work) => {
    await occupy(servers, "held", HELD_VALUE);
    const printed = await printedBy(work);
    expect(printed).toContain(`ExecutionError: `);
    expect(printed).toContain(`held is held by ${OWNER}`);
    expect(printed).toContain(`reason: 'held'`);
    expect(printed.trim().split("\n").length).toBeLessThan(15);
  });

  test.each([
    [
      "of a lock that a majority no longer holds",
      `await redlock.using("lost", 1500, async (signal, lock) => {
         await redlock.forceRelease("lost");
         await new Promise((resolve) => signal.addEventListener("abort", resolve));
       });`,
    ],
    [
      "of a lock whose time ended while the event loop was blocked",
      `await redlock.using("lost", 300, () => {
         for (const end = performance.now() + 400; performance.now() < end; );
       });`,
    ],
    [
      "of a lock whose Redlock was closed",
      `await redlock.using("lost", 5000, () => redlock.quit());`,
    ],
    [
      "thrown by its signal",
      `const lock = await redlock.acquire("lost", 300);
       await new Promise((resolve) => setTimeout(resolve, 400));
       lock.signal.throwIfAborted();`,
    ],
  ])("prints fewer than 15 lines: a LockLostError %s", async (_, work) => {
    const printed = await printedBy(work);
    expect(printed).toContain("LockLostError: The lock on lost, with a ttl of ");
    expect(printed.trim().split("\n").length).toBeLessThan(15);
  });
});
