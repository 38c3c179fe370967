import { getEventListeners, setMaxListeners } from "node:events";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Redis } from "ioredis";
import { type RedisServer, until } from "../../tests/support/servers.js";
import { progress, slope } from "../measure.js";
import { loadPackage, type Package } from "../package-under-test.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import { collectionSizes } from "./collection-sizes.js";

type Redlock = InstanceType<Package["Redlock"]>;

const MOST_HEAP_SLOPE_MIB = 1;
const TTL_MS = 10_000;
const NODE_TIMEOUT_MS = 50;
const SETTLE_LIMIT_MS = 15_000;

const USERS = 16;
/** Of four operations each: acquire, extend, an acquire that is refused, release. */
const HEALTHY_CYCLES = 1_800;
const CYCLES_WITH_ONE_HUNG = 400;
/** Acquires that time out, since a majority hangs; all of a batch are sent before the first has. */
const TIMED_OUT_BATCHES = 6;
const TIMED_OUT_PER_BATCH = 200;
const OPERATIONS_PER_ROUND =
  4 * (HEALTHY_CYCLES + CYCLES_WITH_ONE_HUNG) + TIMED_OUT_BATCHES * TIMED_OUT_PER_BATCH;

export const leaks: Scenario = {
  name: "leaks",
  title: "What is left behind",
  about:
    `Rounds of ${OPERATIONS_PER_ROUND} operations by ${USERS} users: locks that are acquired, extended and released, ` +
    "acquires of a held lock, a node that hangs, and acquires that time out because a majority hangs. After each " +
    "round the run reads the heap after a garbage collection, the number of timers and listeners, and the size of " +
    "each map, set and array in the library’s objects.",
  rounds: { usual: 5, short: 2 },
  run,
};

/** What must be at the end of each round what it was at the start. */
interface Leftovers {
  readonly timers: number;
  readonly otherResources: number;
  readonly clientListeners: number;
  readonly redlockListeners: number;
  readonly signalListeners: number;
  readonly collections: ReadonlyMap<string, number>;
}

interface Subject {
  readonly servers: readonly RedisServer[];
  readonly clients: readonly Redis[];
  readonly redlock: Redlock;
  /** One that outlives every operation, as a service's shutdown signal does. */
  readonly signal: AbortSignal;
}

interface Counts {
  granted: number;
  extended: number;
  released: number;
  refused: number;
  timedOut: number;
}

async function cycle({ redlock, signal }: Subject, key: string, counts: Counts): Promise<void> {
  const lock = await redlock.acquire(key, TTL_MS, { signal });
  counts.granted += 1;
  await redlock.extend(lock, TTL_MS);
  counts.extended += 1;
  await assertRefused(redlock.acquire(key, TTL_MS, { retryCount: 0, signal }));
  counts.refused += 1;
  await redlock.release(lock);
  counts.released += 1;
}

async function cycles(subject: Subject, count: number, counts: Counts): Promise<void> {
  let next = 0;
  const user = async (): Promise<void> => {
    while (next < count) await cycle(subject, `leaks:${next++}`, counts);
  };
  await Promise.all(Array.from({ length: USERS }, user));
}

/** A majority hangs: each acquire of a batch waits its node timeout and is refused. */
async function timeOut(subject: Subject, counts: Counts): Promise<void> {
  const { servers, redlock, signal } = subject;
  const hung = servers.slice(0, 3);
  await Promise.all(hung.map((server) => server.freeze()));
  try {
    const acquires = Array.from({ length: TIMED_OUT_PER_BATCH }, (_, index) =>
      assertRefused(redlock.acquire(`leaks:${index}`, TTL_MS, { retryCount: 0, signal })),
    );
    await Promise.all(acquires);
    counts.timedOut += acquires.length;
  } finally {
    for (const server of hung) server.thaw();
  }
  await allVote(subject);
}

async function round(subject: Subject, counts: Counts): Promise<void> {
  await cycles(subject, HEALTHY_CYCLES, counts);

  const [hung] = subject.servers;
  await hung?.freeze();
  try {
    await cycles(subject, CYCLES_WITH_ONE_HUNG, counts);
  } finally {
    hung?.thaw();
  }
  await allVote(subject);

  for (let batch = 0; batch < TIMED_OUT_BATCHES; batch++) await timeOut(subject, counts);
}

async function assertRefused(acquire: Promise<unknown>): Promise<void> {
  const outcome = await acquire.then(
    () => "granted",
    (error: unknown) => error,
  );
  if (outcome instanceof Error && "code" in outcome && outcome.code === "ERR_REDLOCK_QUORUM")
    return;
  throw new Error("An acquire that had to be refused was not", { cause: outcome });
}

/** Waits until each node votes for a free lock again. */
async function allVote({ redlock, clients }: Subject): Promise<void> {
  const everyNodeVotes = async (): Promise<boolean> => {
    const lock = await redlock.acquire("leaks:all-vote", TTL_MS, { retryCount: -1 });
    const stats = await lock.attempts.at(-1);
    await lock.release();
    return stats?.votesFor.size === clients.length;
  };
  await until(everyNodeVotes, SETTLE_LIMIT_MS, () => "a node that was thawed does not vote");
}

async function leftoversOf({ clients, redlock, signal }: Subject): Promise<Leftovers> {
  const resources = process.getActiveResourcesInfo();
  const timers = resources.filter((resource) => /Timeout|Immediate/.test(resource)).length;
  const clientListeners = clients.flatMap((client) =>
    client.eventNames().map((name) => client.listenerCount(name)),
  );
  return {
    timers,
    otherResources: resources.length - timers,
    clientListeners: clientListeners.reduce((sum, count) => sum + count, 0),
    redlockListeners: redlock.listenerCount("error"),
    signalListeners: getEventListeners(signal, "abort").length,
    collections: await collectionSizes(redlock, clients),
  };
}

/** In words, what differs from the start; nothing if all is as it was. */
function differences(start: Leftovers, now: Leftovers): string[] {
  const figures = ({ collections, ...others }: Leftovers): Map<string, number> =>
    new Map([...Object.entries(others), ...collections]);
  const before = figures(start);
  const after = figures(now);
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((name) => {
    const [was, is] = [before.get(name) ?? 0, after.get(name) ?? 0];
    return was === is ? [] : [`${name}: ${was} at the start, ${is} now`];
  });
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

async function heapMib(): Promise<number> {
  for (let pass = 0; pass < 3; pass++) {
    collectGarbage();
    await new Promise(setImmediate);
  }
  return process.memoryUsage().heapUsed / 2 ** 20;
}

/** Waits for the stragglers, which have their node timeout, and the owed releases, which have the ttl. */
async function settled(subject: Subject, start: Leftovers): Promise<string[]> {
  let left: string[] = [];
  const isAsAtTheStart = async (): Promise<boolean> => {
    left = differences(start, await leftoversOf(subject));
    return left.length === 0;
  };
  await until(isAsAtTheStart, SETTLE_LIMIT_MS, () => "").catch(() => undefined);
  return left;
}

async function measure(subject: Subject, rounds: number): Promise<Outcome> {
  await allVote(subject);
  const start = await leftoversOf(subject);
  const heaps: number[] = [];
  const rows: { name: string; figures: number[] }[] = [];
  const leftBehind = new Set<string>();
  for (let index = 0; index <= rounds; index++) {
    const name = index === 0 ? "warm-up" : `round ${index}`;
    progress(`${name}: ${OPERATIONS_PER_ROUND} operations`);
    const counts: Counts = { granted: 0, extended: 0, released: 0, refused: 0, timedOut: 0 };
    const beganMs = performance.now();
    await round(subject, counts);
    const tookS = (performance.now() - beganMs) / 1_000;
    for (const difference of await settled(subject, start)) leftBehind.add(difference);
    const heap = await heapMib();
    if (index > 0) heaps.push(heap);
    rows.push({ name, figures: [tookS, ...Object.values<number>({ ...counts }), heap] });
  }
  progress("");
  const columns = [
    { name: "" },
    { name: "s", digits: 1 },
    ...["acquired", "extended", "released", "refused", "timed out"].map((name) => ({ name })),
    { name: "heap MiB", digits: 2 },
  ];
  const heapSlope = slope(heaps);
  const goals: Goal[] = [
    {
      measure: `heap growth after gc, MiB per ${OPERATIONS_PER_ROUND} operations`,
      measured: heapSlope,
      digits: 3,
      goal: `within ±${MOST_HEAP_SLOPE_MIB}`,
      met: Math.abs(heapSlope) <= MOST_HEAP_SLOPE_MIB,
    },
    {
      measure: `timers, listeners, ${start.collections.size} maps, sets and arrays`,
      measured: leftBehind.size === 0 ? "as at the start" : `${leftBehind.size} differ`,
      goal: "as at the start",
      met: leftBehind.size === 0,
    },
  ];
  return { tables: [{ columns, rows }], goals, notes: [...leftBehind] };
}

async function run({ servers, packageUrl, rounds }: Stage): Promise<Outcome> {
  const { Redlock } = await loadPackage(packageUrl);
  const clients = servers.map(({ port }) => new Redis(port));
  try {
    await Promise.all(clients.map((client) => client.ping()));
    const redlock = new Redlock(clients, { nodeTimeout: NODE_TIMEOUT_MS });
    const { signal } = new AbortController();
    // Each waiting acquire listens to it, and Node warns from eleven on.
    setMaxListeners(0, signal);
    return await measure({ servers, clients, redlock, signal }, rounds);
  } finally {
    for (const client of clients) client.disconnect();
  }
}
