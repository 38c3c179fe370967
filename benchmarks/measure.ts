// What the benchmarks share: figures, rounds that take turns, progress, and the table at the end.

import { parseArgs } from "node:util";

/** Fewer rounds than these make no figure worth comparing. */
const FEWEST_ROUNDS = 20;

export interface Options {
  /** Exit with 1 where a goal is missed; without it, a miss is only reported. */
  readonly check: boolean;
  readonly rounds: number;
}

export interface Goal {
  readonly measure: string;
  readonly measured: string;
  readonly goal: string;
  /** Undefined where the figure is only reported. */
  readonly met?: boolean;
}

/** The middle half of the values, and their middle. */
export interface Spread {
  readonly median: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
}

/** Reads `--check` and `--rounds N`; anything else ends the process with a line of usage. */
export function readOptions(usualRounds = FEWEST_ROUNDS): Options {
  try {
    const { values } = parseArgs({
      options: {
        check: { type: "boolean", default: false },
        rounds: { type: "string", default: String(usualRounds) },
      },
    });
    const rounds = Number(values.rounds);
    if (Number.isInteger(rounds) && rounds > 0) return { check: values.check, rounds };
  } catch {
    // Said below.
  }
  console.error(`Usage: [--check] [--rounds ${usualRounds}]`);
  process.exit(2);
}

/** The value below which this share of the values lies; NaN where there are none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function spread(values: readonly number[]): Spread {
  return {
    median: median(values),
    lowerQuartile: quantile(values, 0.25),
    upperQuartile: quantile(values, 0.75),
  };
}

/** Each value divided by the one of the same round: a slow moment of the machine slows both. */
export function ratios(values: readonly number[], bases: readonly number[]): number[] {
  return values.map((value, round) => value / (bases[round] ?? NaN));
}

/** By how much the values rise from one to the next, by least squares. */
export function slope(values: readonly number[]): number {
  const meanX = (values.length - 1) / 2;
  const meanY = values.reduce((sum, y) => sum + y, 0) / values.length;
  let covariance = 0;
  let variance = 0;
  for (const [x, y] of values.entries()) {
    covariance += (x - meanX) * (y - meanY);
    variance += (x - meanX) ** 2;
  }
  return covariance / variance;
}

/**
 * Runs all contestants in each round, every second round in reverse order, so that none of them
 * always follows the same other. Gives what each of them measured, round by round.
 */
export async function interleave<T>(
  rounds: number,
  contestants: ReadonlyMap<string, (round: number) => Promise<T>>,
): Promise<Map<string, T[]>> {
  const measured = new Map<string, T[]>();
  for (const name of contestants.keys()) measured.set(name, []);
  for (let round = 0; round < rounds; round++) {
    progress(`round ${round + 1} of ${rounds}`);
    const turns = [...contestants];
    if (round % 2 === 1) turns.reverse();
    for (const [name, run] of turns) measured.get(name)?.push(await run(round));
  }
  progress("");
  return measured;
}

let lastProgressMs = 0;

/** In place on a terminal, else a line every five seconds; the empty text ends it. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (text !== "" && performance.now() - lastProgressMs > 5_000) {
    lastProgressMs = performance.now();
    process.stderr.write(`${text}\n`);
  }
}

/** Columns as wide as their widest cell; the first to the left, the others to the right. */
export function printTable(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const lines = [head, ...rows];
  const widths = head.map((_, column) =>
    Math.max(...lines.map((cells) => cells[column]?.length ?? 0)),
  );
  const print = (cells: readonly string[]): void => {
    const padded = cells.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    console.log(padded.join("  ").trimEnd());
  };
  console.log();
  print(head);
  print(widths.map((width) => "-".repeat(width)));
  for (const cells of rows) print(cells);
}

/** The table that a benchmark ends with. With `--check`, a goal missed makes the exit code 1. */
export function conclude(
  goals: readonly Goal[],
  { check, rounds }: Options,
  fewestRounds = FEWEST_ROUNDS,
): void {
  const rows = goals.map(({ measure, measured, goal, met }) => {
    return [measure, measured, goal, met === undefined ? "" : met ? "met" : "MISSED"];
  });
  printTable(["measure", "measured", "goal", ""], rows);
  if (rounds < fewestRounds) console.log(`\nOnly ${rounds} rounds: a trial, no measurement.`);
  if (check && goals.some(({ met }) => met === false)) process.exitCode = 1;
}

export function spreadInText({ median, lowerQuartile, upperQuartile }: Spread, digits = 2): string {
  const [middle, lower, upper] = [median, lowerQuartile, upperQuartile].map((value) =>
    value.toFixed(digits),
  );
  return `${middle} (${lower}–${upper})`;
}
