// What acquire and release cost, compared with another build: `npm run bench -- --against COMMIT`.

import { installedLibraries, libraryNamed, OURS } from "./libraries.js";
import type { Locker } from "./locker.js";
import { interleave, median, medianInterval, ratios } from "./measure.js";
import type { Figure, Outcome, Scenario, Stage, Table } from "./scenario.js";
import { useAlone, useTogether, warmUp } from "./workloads.js";

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

/** Compares what a pair costs in this build and in the other one. Both run in one process, and take turns. */
export function against(name: string, otherUrl: string): Scenario {
  return {
    name: "against",
    title: `What an acquire and release costs, against ${name}`,
    about: "",
    rounds: { usual: 60, short: 10 },
    run: (stage) => run(stage, otherUrl),
  };
}

async function run({ servers, packageUrl, rounds }: Stage, otherUrl: string): Promise<Outcome> {
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
    return { tables: [tableOf(of, rounds)], goals: [] };
  } finally {
    for (const locker of lockers) locker.close();
  }
}

function tableOf(of: (build: string, figure: keyof Cost) => number[], rounds: number): Table {
  return {
    columns: [
      { name: `acquire and release, ${rounds} rounds` },
      { name: "this", digits: 1 },
      { name: "other", digits: 1 },
      { name: "this, relative to the other" },
      { name: "verdict" },
      { name: "the other, again" },
    ],
    rows: FIGURES.map(({ name, of: figure }) => {
      const relative = ratios(of("this", figure), of("other", figure));
      const again = ratios(of("other, again", figure), of("other", figure));
      return {
        name,
        figures: [
          median(of("this", figure)),
          median(of("other", figure)),
          withInterval(relative),
          verdictOn(relative, again),
          withInterval(again),
        ],
      };
    }),
  };
}

function withInterval(values: readonly number[]): Figure {
  const interval = medianInterval(values);
  const text = median(values).toFixed(3);
  if (interval === undefined) return text;
  return `${text} (${interval.low.toFixed(3)}–${interval.high.toFixed(3)})`;
}

/** A difference counts if it is larger than chance explains, and than that of the other build from itself. */
export function verdictOn(relative: readonly number[], again: readonly number[]): string {
  const [ours, noise] = [medianInterval(relative), medianInterval(again)];
  if (ours === undefined || noise === undefined) return "too few rounds";
  const { low, high } = { low: Math.min(1, noise.low), high: Math.max(1, noise.high) };
  if (ours.high < low) return "costs less";
  if (ours.low > high) return "costs more";
  return "no difference shown";
}
