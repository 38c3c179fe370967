import { libraryNamed, OURS } from "../libraries.js";
import type { Locker } from "../locker.js";
import { interleave, ratios, spread } from "../measure.js";
import { loadPackage } from "../package-under-test.js";
import type { Outcome, Scenario, Stage } from "../scenario.js";
import { type Cost, useTogether, warmUp } from "../workloads.js";

const USERS = 64;
const TURN_MS = 400;
const LEAST_TO_EXCLUSIVE = 0.8;

const EXCLUSIVE = "exclusive locks, a resource for each user";
const TOGETHER = "readers, one resource for all users";
const APART = "readers, a resource for each user";

export const readers: Scenario = {
  name: "readers",
  title: "Readers of one resource",
  about:
    `${USERS} users in one process acquire and release again and again, for ${TURN_MS} ms a round: exclusive locks, each ` +
    "user on a resource of its own; readers, all of one resource; and readers, each on a resource of its own. CPU is that of " +
    "the client’s process, and of the five servers together, per acquire and release.",
  rounds: { usual: 20, short: 3 },
  run,
};

async function run({ libraries, servers, packageUrl, rounds }: Stage): Promise<Outcome> {
  const urls = servers.map(({ url }) => url);
  const exclusive = await libraryNamed(libraries, OURS).open(urls, "none");
  const { Redlock } = await loadPackage(packageUrl);
  const redlock = new Redlock(urls, { retryCount: 0 });
  const reader = (nameOf: (resources: string[]) => string[]): Locker => ({
    acquire: (resources, ttlMs) => redlock.acquire(nameOf(resources), ttlMs, { shared: true }),
    reachAll: () => exclusive.reachAll(),
    close: () => undefined,
  });
  const contestants = new Map([
    [EXCLUSIVE, exclusive],
    [TOGETHER, reader(() => ["readers:one"])],
    [APART, reader((resources) => resources)],
  ]);
  try {
    const runs = new Map<string, () => Promise<Cost>>();
    for (const [name, locker] of contestants) {
      await warmUp(locker, false);
      const plan = { users: USERS, forMs: TURN_MS, keyPrefix: `readers:${name}` };
      runs.set(name, () => useTogether(locker, servers, plan));
    }
    return outcome(await interleave(rounds, runs));
  } finally {
    exclusive.close();
    await redlock.quit();
  }
}

function outcome(measured: ReadonlyMap<string, readonly Cost[]>): Outcome {
  const of = (name: string, figure: keyof Cost): number[] =>
    (measured.get(name) ?? []).map((cost) => cost[figure]);
  const relative = (name: string): ReturnType<typeof spread> =>
    spread(ratios(of(name, "pairsPerSecond"), of(EXCLUSIVE, "pairsPerSecond")));
  const columns = [
    { name: `${USERS} users` },
    { name: "pairs/s", digits: 0 },
    { name: "client CPU µs a pair", digits: 1 },
    { name: "server CPU µs a pair", digits: 1 },
    { name: "pairs/s, relative to exclusive locks", digits: 2 },
  ];
  const rows = [...measured.keys()].map((name) => ({
    name,
    figures: [
      spread(of(name, "pairsPerSecond")),
      spread(of(name, "clientCpuUs")),
      spread(of(name, "serverCpuUs")),
      name === EXCLUSIVE ? undefined : relative(name),
    ],
  }));
  const together = relative(TOGETHER);
  const goal = {
    measure: `${USERS} readers of one resource: pairs/s, relative to exclusive locks on distinct resources`,
    measured: together,
    goal: `at least ${LEAST_TO_EXCLUSIVE}`,
    met: together.median >= LEAST_TO_EXCLUSIVE,
  };
  return { tables: [{ columns, rows }], goals: [goal] };
}
