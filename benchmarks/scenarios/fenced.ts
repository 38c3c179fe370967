import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import type { Redlock } from "../../src/index.js";
import { acquireFencedScript } from "../../src/operations/acquire-fenced.js";
import { confirmFenceScript } from "../../src/operations/confirm-fence.js";
import { releaseScript } from "../../src/operations/release.js";
import { until } from "../../tests/support/servers.js";
import { FLOOR, OURS } from "../libraries.js";
import { interleave, ratios, spread } from "../measure.js";
import { loadPackage } from "../package-under-test.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { medians, percentiles, PERCENTILES } from "../workloads.js";

const LOCKS_PER_ROUND = 100;
const WARM_UP_LOCKS = 1_000;
const TTL_MS = 30_000;
const REACH_LIMIT_MS = 15_000;
/** Above every host's clock: of the year 2033. */
const FAR_AHEAD = 2e15;

const PLAIN = `${OURS}, not fenced`;
const FENCED = `${OURS}, fenced`;
const FENCED_FLOOR = `${FLOOR}, the same script`;
const SECOND = `${OURS}, fenced, second round`;
const SECOND_FLOOR = `${FLOOR}, the same two scripts`;

export const fenced: Scenario = {
  name: "fenced",
  title: "Fencing tokens",
  about:
    `One user acquires and releases one lock after the other, ${LOCKS_PER_ROUND} a round: without a fencing token, with ` +
    "one, and with one from a second round, because the nodes hold a larger token each time. “The same script” is " +
    "bare ioredis that sends the same scripts, and is done when three of five nodes have accepted.",
  rounds: { usual: 60, short: 5 },
  run,
};

interface Contestant {
  /** Makes the nodes' fences larger than what comes, where there is to be a second round. */
  readonly isBehind: boolean;
  readonly acquire: (resource: string) => Promise<{ release(): Promise<unknown> }>;
}

async function run({ servers, packageUrl, rounds }: Stage): Promise<Outcome> {
  const clients = servers.map(({ url }) => new Redis(url));
  const { Redlock } = await loadPackage(packageUrl);
  const redlock: Redlock = new Redlock(servers.map(({ url }) => url));
  let ahead = FAR_AHEAD;
  const raiseFences = async (resource: string): Promise<void> => {
    // By more than the locks of a round, each of which raises what the client proposes next.
    ahead += 10 * LOCKS_PER_ROUND;
    const fence = `${ahead} another`;
    await Promise.all(clients.map((client) => client.set(fenceOf(resource), fence, "PX", TTL_MS)));
  };
  const ours = (fencing: boolean): Contestant["acquire"] => {
    return (resource) => redlock.acquire(resource, TTL_MS, { fencing });
  };
  const contestants = new Map<string, Contestant>([
    [PLAIN, { isBehind: false, acquire: ours(false) }],
    [FENCED, { isBehind: false, acquire: ours(true) }],
    [FENCED_FLOOR, { isBehind: false, acquire: floorOf(clients, () => undefined) }],
    [SECOND, { isBehind: true, acquire: ours(true) }],
    [SECOND_FLOOR, { isBehind: true, acquire: floorOf(clients, () => ahead + 1) }],
  ]);
  try {
    await until(
      async () => {
        const lock = await redlock.acquire("every node votes?", TTL_MS);
        const stats = await lock.attempts.at(-1);
        await lock.release();
        return stats?.votesFor.size === servers.length;
      },
      REACH_LIMIT_MS,
      () => "a node that runs does not vote",
    );
    for (const client of clients) {
      for (const { text } of [acquireFencedScript, confirmFenceScript, releaseScript]) {
        await client.script("LOAD", text);
      }
    }
    const use = async (name: string, contestant: Contestant, locks: number): Promise<number[]> => {
      const latenciesMs: number[] = [];
      for (let index = 0; index < locks; index++) {
        const resource = `fenced:${name}:${index}`;
        if (contestant.isBehind) await raiseFences(resource);
        const startMs = performance.now();
        const lock = await contestant.acquire(resource);
        latenciesMs.push(performance.now() - startMs);
        await lock.release();
      }
      return latenciesMs;
    };
    const runs = new Map<string, () => Promise<number[]>>();
    for (const [name, contestant] of contestants) {
      await use(name, contestant, WARM_UP_LOCKS);
      runs.set(name, () => use(name, contestant, LOCKS_PER_ROUND));
    }
    return outcome(await interleave(rounds, runs));
  } finally {
    for (const client of clients) client.disconnect();
    await redlock.quit();
  }
}

function fenceOf(resource: string): string {
  return `{${resource}}:redlock:fence`;
}

/** @param secondToken the token of a second round, where there is to be one */
function floorOf(
  clients: readonly Redis[],
  secondToken: () => number | undefined,
): Contestant["acquire"] {
  const quorum = Math.floor(clients.length / 2) + 1;
  const ask = (isYes: (reply: unknown) => boolean, sha1: string, args: string[]): Promise<void> =>
    new Promise((resolve, reject) => {
      let votes = 0;
      for (const client of clients) {
        client.evalsha(sha1, ...(args as [string])).then((reply) => {
          if (!isYes(reply)) reject(new Error(`A node answered ${String(reply)}.`));
          else if (++votes === quorum) resolve();
        }, reject);
      }
    });
  const accepted = (reply: unknown): boolean => reply === "accepted";
  return async (resource) => {
    const value = randomBytes(16).toString("hex");
    const second = secondToken();
    const keys = ["2", resource, fenceOf(resource), value, String(TTL_MS)];
    await ask(second === undefined ? accepted : (reply) => reply !== 0, acquireFencedScript.sha1, [
      ...keys,
      String(Date.now() * 1000),
    ]);
    if (second !== undefined) {
      await ask(accepted, confirmFenceScript.sha1, [...keys, String(second)]);
    }
    return {
      release: () => ask((reply) => reply === 1, releaseScript.sha1, ["1", resource, value]),
    };
  };
}

function outcome(measured: ReadonlyMap<string, readonly number[][]>): Outcome {
  const p50s = (name: string): number[] => medians(measured.get(name) ?? []);
  const against = (name: string): string | undefined =>
    ({ [FENCED]: FENCED_FLOOR, [SECOND]: SECOND_FLOOR })[name];
  const rows = [...measured].map(([name, rounds]) => {
    const floor = against(name);
    return {
      name,
      figures: [
        ...percentiles(rounds),
        spread(ratios(p50s(name), p50s(PLAIN))),
        floor === undefined ? undefined : spread(ratios(p50s(name), p50s(floor))),
      ],
    };
  });
  const columns = [
    { name: "acquire" },
    ...PERCENTILES.map(({ name }) => ({ name: `${name} ms`, digits: 3 })),
    { name: "p50, relative to not fenced", digits: 3 },
    { name: "p50, relative to bare ioredis", digits: 3 },
  ];
  return { tables: [{ columns, rows }], goals: [] };
}
