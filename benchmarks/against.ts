// What acquire and release cost, compared with another build: `npm run bench -- --against FILE`.

import { format } from "prettier";
import { startServers, stopAll } from "../tests/support/servers.js";
import { installedLibraries, libraryNamed, OURS } from "./libraries.js";
import type { Locker } from "./locker.js";
import { interleave, median, ratios, spread } from "./measure.js";
import { tableInMarkdown } from "./report.js";
import { useAlone, useTogether, warmUp } from "./workloads.js";

const NODES = 5;
const LOCKS_ALONE = 500;
const USERS = 64;
const TURN_MS = 400;
const WARM_UP_ROUNDS = 5;

/** What one build did in one round. Times in µs, for an acquire and a release. */
interface Cost {
  readonly aloneP50Us: number;
  readonly togetherUs: number;
  readonly clientCpuUs: number;
  readonly serverCpuUs: number;
}

const FIGURES: readonly { readonly name: string; readonly of: keyof Cost }[] = [
  { name: "one user: p50 µs", of: "aloneP50Us" },
  { name: `${USERS} users: µs a pair`, of: "togetherUs" },
  { name: `${USERS} users: client CPU µs a pair`, of: "clientCpuUs" },
  { name: `${USERS} users: server CPU µs a pair`, of: "serverCpuUs" },
];

/** Measures both builds in turns, in one process, on the same servers. Prints how much more the first costs. */
export async function measureAgainst(
  packageUrl: string,
  otherUrl: string,
  rounds: number,
): Promise<void> {
  const servers = await startServers(NODES);
  const urls = servers.map(({ url }) => url);
  const lockers: Locker[] = [];
  try {
    const builds = new Map<string, () => Promise<Cost>>();
    // The other one twice: how much the two differ is what this machine cannot tell.
    for (const [name, url] of [
      ["this", packageUrl],
      ["other", otherUrl],
      ["other, again", `${otherUrl}?again`],
    ] as const) {
      const locker = await libraryNamed(installedLibraries(url), OURS).open(urls, "none");
      lockers.push(locker);
      await warmUp(locker, false);
      const keyPrefix = `against:${name}`;
      builds.set(name, async () => {
        const resources = (index: number): string[] => [`${keyPrefix}:${index}`];
        const alone = await useAlone(locker, { locks: LOCKS_ALONE, extend: false, resources });
        const pairs = alone.acquire.map((ms, index) => ms + (alone.release[index] ?? NaN));
        const plan = { users: USERS, forMs: TURN_MS, keyPrefix };
        const { pairsPerSecond, clientCpuUs, serverCpuUs } = await useTogether(
          locker,
          servers,
          plan,
        );
        return {
          aloneP50Us: median(pairs) * 1000,
          togetherUs: 1e6 / pairsPerSecond,
          clientCpuUs,
          serverCpuUs,
        };
      });
    }
    await interleave(WARM_UP_ROUNDS, builds);
    const measured = await interleave(rounds, builds);
    const of = (build: string, figure: keyof Cost): number[] =>
      (measured.get(build) ?? []).map((cost) => cost[figure]);
    const table = {
      columns: [
        { name: `acquire and release, ${rounds} rounds` },
        { name: "this", digits: 1 },
        { name: "other", digits: 1 },
        { name: "this, relative to the other", digits: 3 },
        { name: "the other, again", digits: 3 },
      ],
      rows: FIGURES.map(({ name, of: figure }) => ({
        name,
        figures: [
          median(of("this", figure)),
          median(of("other", figure)),
          spread(ratios(of("this", figure), of("other", figure))),
          spread(ratios(of("other, again", figure), of("other", figure))),
        ],
      })),
    };
    console.log(await format(tableInMarkdown(table), { parser: "markdown" }));
  } finally {
    for (const locker of lockers) locker.close();
    await stopAll(servers);
  }
}
