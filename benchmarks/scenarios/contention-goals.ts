// What this library promises of many who want one lock.

import { namesOfPeers, OURS } from "../libraries.js";
import { againstBest, quantile, ratios, spread } from "../measure.js";
import type { Library } from "../libraries.js";
import type { Goal } from "../scenario.js";

/** One round of one library, of all processes together. */
export interface Round {
  readonly turnsPerSecond: number;
  readonly waitsMs: readonly number[];
  readonly unluckiest: number;
  readonly luckiest: number;
  readonly idlePercent: number;
  readonly attemptsPerTurn: number | undefined;
  /** That all nodes ran, those of scripts included. */
  readonly commandsPerTurn: number;
}

const MOST_P99_TO_P50 = 1.5;
const LEAST_UNLUCKIEST_TO_LUCKIEST = 0.9;
const LEAST_TURNS_TO_PEER = 0.75;
const MOST_P99_TO_PEER = 0.2;
/** With a hundred times as many waiters. */
const MOST_COMMANDS_RATIO = 1.5;

/** Between workers of several processes, in few words `shape`. */
export function sharingGoals(
  shape: string,
  of: (library: string) => readonly Round[],
  libraries: readonly Library[],
): Goal[] {
  const ours = of(OURS);
  const turns = (rounds: readonly Round[]): number[] =>
    rounds.map(({ turnsPerSecond }) => turnsPerSecond);
  const waits = (rounds: readonly Round[], share: number): number[] =>
    rounds.map(({ waitsMs }) => quantile(waitsMs, share));
  const peers = namesOfPeers(libraries).map((name) => ({ name, rounds: of(name) }));
  const tail = spread(ratios(waits(ours, 0.99), waits(ours, 0.5)));
  const evenness = spread(ours.map(({ unluckiest, luckiest }) => unluckiest / luckiest));
  const pace = againstBest(
    turns(ours),
    peers.map(({ name, rounds }) => ({ name, values: turns(rounds) })),
    "high",
  );
  const wait = againstBest(
    waits(ours, 0.99),
    peers.map(({ name, rounds }) => ({ name, values: waits(rounds, 0.99) })),
    "low",
  );
  return [
    {
      measure: `${shape}: p99 wait, relative to the p50`,
      measured: tail,
      goal: `at most ${MOST_P99_TO_P50}`,
      met: tail.median <= MOST_P99_TO_P50,
    },
    {
      measure: `${shape}: fewest turns of a worker, relative to the most`,
      measured: evenness,
      goal: `at least ${LEAST_UNLUCKIEST_TO_LUCKIEST}`,
      met: evenness.median >= LEAST_UNLUCKIEST_TO_LUCKIEST,
    },
    {
      measure: `${shape}: turns/s, relative to the best peer (${pace?.rival ?? "none"})`,
      measured: pace?.ratio,
      goal: `at least ${LEAST_TURNS_TO_PEER}`,
      met: pace && pace.ratio.median >= LEAST_TURNS_TO_PEER,
    },
    {
      measure: `${shape}: p99 wait, relative to the best peer (${wait?.rival ?? "none"})`,
      measured: wait?.ratio,
      goal: `at most ${MOST_P99_TO_PEER}`,
      met: wait && wait.ratio.median <= MOST_P99_TO_PEER,
    },
  ];
}

/** Of one process's workers, `many` to a hundredth of them, `few`. */
export function crowdGoals(shape: string, many: readonly Round[], few: readonly Round[]): Goal[] {
  const gap = spread(many.map(({ luckiest, unluckiest }) => luckiest - unluckiest));
  const perTurn = (rounds: readonly Round[]): number[] =>
    rounds.map(({ commandsPerTurn }) => commandsPerTurn);
  const commands = spread(ratios(perTurn(many), perTurn(few)));
  return [
    {
      measure: `${shape}: most turns of a worker less the fewest`,
      measured: gap,
      digits: 0,
      goal: "at most 1",
      met: gap.median <= 1,
    },
    {
      measure: `${shape}: commands per turn, relative to a hundredth of the workers`,
      measured: commands,
      goal: `at most ${MOST_COMMANDS_RATIO}`,
      met: commands.median <= MOST_COMMANDS_RATIO,
    },
  ];
}
