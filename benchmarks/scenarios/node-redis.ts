import { createClient } from "redis";
import type { Redlock } from "../../src/index.js";
import { extendScript } from "../../src/operations/extend.js";
import { releaseScript } from "../../src/operations/release.js";
import { until } from "../../tests/support/servers.js";
import { type BareClient, floorOf } from "../floor.js";
import { OURS, versionOf } from "../libraries.js";
import type { Locker } from "../locker.js";
import { interleave, ratios, type Spread, spread } from "../measure.js";
import { loadPackage } from "../package-under-test.js";
import type { Goal, Outcome, Scenario, Stage } from "../scenario.js";
import {
  type Latencies,
  medians,
  PERCENTILES,
  percentiles,
  STEPS,
  type Step,
  useAlone,
  warmUp,
} from "../workloads.js";

/** Few, so that the contestants of a round meet the same moment of the machine. */
const LOCKS_PER_ROUND = 100;
const MOST_TO_FLOOR = 1.1;
const REACH_LIMIT_MS = 15_000;
const TTL_MS = 10_000;

const FLOOR = "node-redis alone";
const FLOOR_AGAIN = `${FLOOR}, again`;
const USUAL = `${FLOOR}, without options`;
/** As the library sends them: without an explicit `timeout`, version 6 makes an AbortSignal for each command. */
const NO_TIMEOUT = { timeout: undefined };

export const nodeRedis: Scenario = {
  name: "node-redis",
  title: "Clients of node-redis",
  about:
    "One user acquires, extends and releases one lock after the other, " +
    `${LOCKS_PER_ROUND} a round, with clients of node-redis that are connected. “${FLOOR}” is the floor: it sends the ` +
    "same commands with `sendCommand` and the option that makes it fastest, `timeout: undefined`, and is done when three " +
    "of five nodes have granted them. The second floor shows how much two equal contestants differ. Percentiles are of all rounds together. Ratios are of the p50s of the same " +
    "round.",
  rounds: { usual: 100, short: 5 },
  run,
};

type Client = ReturnType<typeof createClient>;

async function run({ servers, packageUrl, rounds }: Stage): Promise<Outcome> {
  const clients: Client[] = [];
  const connect = async (): Promise<Client[]> => {
    const made = await Promise.all(servers.map(({ port }) => connected(port)));
    clients.push(...made);
    return made;
  };
  try {
    const contestants = new Map<string, Pick<Locker, "acquire">>([
      [FLOOR, await bare(await connect(), NO_TIMEOUT)],
      [OURS, await ours(packageUrl, await connect())],
      [FLOOR_AGAIN, await bare(await connect(), NO_TIMEOUT)],
      [USUAL, await bare(await connect())],
    ]);
    const runs = new Map<string, () => Promise<Latencies>>();
    for (const [name, locker] of contestants) {
      await warmUp(locker, true);
      const plan = {
        locks: LOCKS_PER_ROUND,
        extend: true,
        resources: (index: number) => [`node-redis:${name}:${index}`],
      };
      runs.set(name, () => useAlone(locker, plan));
    }
    return outcome(await interleave(rounds, runs));
  } finally {
    for (const client of clients) client.destroy();
  }
}

async function connected(port: number): Promise<Client> {
  const client = createClient({ socket: { host: "127.0.0.1", port } });
  client.on("error", () => undefined);
  await client.connect();
  return client as unknown as Client;
}

async function bare(
  clients: readonly Client[],
  options?: typeof NO_TIMEOUT,
): Promise<Pick<Locker, "acquire">> {
  for (const client of clients) {
    for (const { text } of [extendScript, releaseScript]) await client.scriptLoad(text);
  }
  return { acquire: floorOf(clients.map((client) => bareNodeRedis(client, options))) };
}

function bareNodeRedis(client: Client, options?: typeof NO_TIMEOUT): BareClient {
  const send = (line: string[]): Promise<unknown> =>
    client.sendCommand(line, options as Parameters<Client["sendCommand"]>[1]);
  return {
    set: (key, value, ttlMs) => send(["SET", key, value, "NX", "PX", String(ttlMs)]),
    run: (sha1, key, ...args) => send(["EVALSHA", sha1, "1", key, ...args.map(String)]),
  };
}

/** With every node voting from the start. Its clients are closed with the others. */
async function ours(packageUrl: string, clients: Client[]): Promise<Pick<Locker, "acquire">> {
  const { Redlock } = await loadPackage(packageUrl);
  const redlock: Redlock<readonly Client[]> = new Redlock(clients, { retryCount: 0 });
  await until(
    async () => {
      const lock = await redlock.acquire("every node votes?", TTL_MS, { retryCount: -1 });
      const stats = await lock.attempts.at(-1);
      await lock.release();
      return stats?.votesFor.size === clients.length;
    },
    REACH_LIMIT_MS,
    () => "a node that runs does not vote",
  );
  return { acquire: (resources, ttlMs) => redlock.acquire(resources, ttlMs) };
}

function outcome(measured: ReadonlyMap<string, readonly Latencies[]>): Outcome {
  const of = (name: string, step: Step): number[][] =>
    (measured.get(name) ?? []).map((latencies) => latencies[step]);
  const ratioTo = (base: string, name: string, step: Step): Spread =>
    spread(ratios(medians(of(name, step)), medians(of(base, step))));
  const tables = STEPS.map((step) => ({
    columns: [
      { name: step },
      ...PERCENTILES.map(({ name }) => ({ name: `${name} ms`, digits: 3 })),
      { name: "p50, relative to the floor", digits: 3 },
    ],
    rows: [...measured.keys()].map((name) => ({
      name,
      figures: [
        ...percentiles(of(name, step)),
        name === FLOOR ? undefined : ratioTo(FLOOR, name, step),
      ],
    })),
  }));
  const goals = [FLOOR, USUAL].map((base): Goal => {
    const measured = ratioTo(base, OURS, "acquire");
    return {
      measure: `node-redis: acquire p50, relative to ${base}`,
      measured,
      goal: `at most ${MOST_TO_FLOOR.toFixed(2)}`,
      met: measured.median <= MOST_TO_FLOOR,
    };
  });
  return { tables, goals, notes: [`The clients are of node-redis ${versionOf("redis")}.`] };
}
