// Figures, rounds that take turns, and progress.

/** The middle half of the values, and their middle. */
export interface Spread {
  readonly median: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
}

/** The smallest value that this share of the values does not exceed; NaN where there are none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
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

/** Where the median of what the values are drawn from lies. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/**
 * The narrowest pair of values, equally far from both ends, that has the true median between them in at least 95 of 100
 * such samples, whatever the distribution is. Fewer than six values cannot say: undefined.
 *
 * Source: W. J. Conover, Practical Nonparametric Statistics, “Confidence interval for a quantile”.
 */
export function medianInterval(values: readonly number[]): Interval | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const count = sorted.length;
  // The chance that at most `outside` of the values lie below the true median: each does with a chance of one half.
  let chance = 0.5 ** count;
  let below = chance;
  if (below > 0.025) return undefined;
  let outside = 0;
  for (;;) {
    chance *= (count - outside) / (outside + 1);
    if (below + chance > 0.025) break;
    below += chance;
    outside += 1;
  }
  return { low: sorted[outside] ?? NaN, high: sorted[count - 1 - outside] ?? NaN };
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Each value divided by the one of the same round: a slow moment of the machine slows both. */
export function ratios(values: readonly number[], bases: readonly number[]): number[] {
  return values.map((value, round) => value / (bases[round] ?? NaN));
}

/** One contestant against another: the ratios, round by round. */
export interface Comparison {
  readonly rival: string;
  readonly ratio: Spread;
}

/**
 * The rival against which the values come off worst: where `good` is "low", the one with the highest
 * ratio. The best of each single round would be the luckiest of that round, not the best.
 */
export function againstBest(
  values: readonly number[],
  rivals: readonly { readonly name: string; readonly values: readonly number[] }[],
  good: "low" | "high",
): Comparison | undefined {
  const comparisons = rivals.map((rival) => ({
    rival: rival.name,
    ratio: spread(ratios(values, rival.values)),
  }));
  const sign = good === "low" ? -1 : 1;
  return comparisons.sort((a, b) => sign * (a.ratio.median - b.ratio.median))[0];
}

/** By how much the values rise from one to the next, by least squares. */
export function slope(values: readonly number[]): number {
  const meanX = (values.length - 1) / 2;
  const meanY = sum(values) / values.length;
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
export async function interleave<Name extends string, T>(
  rounds: number,
  contestants: ReadonlyMap<Name, (round: number) => Promise<T>>,
): Promise<Map<Name, T[]>> {
  const measured = new Map<Name, T[]>();
  for (const name of contestants.keys()) measured.set(name, []);
  for (let round = 0; round < rounds; round++) {
    const turns = [...contestants];
    if (round % 2 === 1) turns.reverse();
    for (const [name, run] of turns) {
      progress(`round ${round + 1} of ${rounds}: ${name}`);
      measured.get(name)?.push(await run(round));
    }
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
    process.stderr.write(`  ${text}\n`);
  }
}
