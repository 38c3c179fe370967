// What the demo makes of its workers' logs.

/** One call of `using`. Every time is in microseconds of a clock that all processes share. */
export interface Turn {
  readonly askedUs: number;
  enteredUs?: number;
  leftUs?: number;
  error?: string;
}

export interface Phase {
  readonly name: string;
  readonly fromUs: number;
  readonly toUs: number;
}

/** The machine's monotonic clock: the same in every process, unlike `performance.now()`. */
export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** How many critical sections began before an earlier one had ended. */
export function countOverlaps(turns: readonly Turn[]): number {
  const sections = turns
    .map(({ enteredUs, leftUs = Infinity }) => ({ enteredUs, leftUs }))
    .filter((section): section is { enteredUs: number; leftUs: number } => {
      return section.enteredUs !== undefined;
    })
    .sort((a, b) => a.enteredUs - b.enteredUs);
  let overlaps = 0;
  let latestLeftUs = -Infinity;
  for (const { enteredUs, leftUs } of sections) {
    if (enteredUs < latestLeftUs) overlaps++;
    latestLeftUs = Math.max(latestLeftUs, leftUs);
  }
  return overlaps;
}

export interface PhaseFigures {
  readonly name: string;
  readonly turnsPerSecond: number;
  readonly waitP50Ms: number;
  readonly waitP99Ms: number;
}

/** The turns whose work began within the phase: how many a second, and how long they had waited. */
export function figuresOf({ name, fromUs, toUs }: Phase, turns: readonly Turn[]): PhaseFigures {
  const waitsUs = turns
    .filter(({ enteredUs = -Infinity }) => enteredUs >= fromUs && enteredUs < toUs)
    .map(({ askedUs, enteredUs = askedUs }) => enteredUs - askedUs)
    .sort((a, b) => a - b);
  return {
    name,
    turnsPerSecond: waitsUs.length / ((toUs - fromUs) / 1e6),
    waitP50Ms: percentile(waitsUs, 0.5) / 1_000,
    waitP99Ms: percentile(waitsUs, 0.99) / 1_000,
  };
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}

export function figuresTable(rows: readonly PhaseFigures[]): string {
  const line = (name: string, ...cells: string[]) =>
    `  ${name.padEnd(22)}${cells.map((cell) => cell.padStart(12)).join("")}`;
  return [
    line("", "turns/s", "wait p50", "wait p99"),
    ...rows.map(({ name, turnsPerSecond, waitP50Ms, waitP99Ms }) =>
      line(
        name,
        turnsPerSecond.toFixed(0),
        `${waitP50Ms.toFixed(1)} ms`,
        `${waitP99Ms.toFixed(1)} ms`,
      ),
    ),
  ].join("\n");
}

/** What the failure of two nodes cost. */
export function costInWords(healthy: PhaseFigures, faulty: PhaseFigures): string {
  const percent = Math.round(100 * (faulty.turnsPerSecond / healthy.turnsPerSecond - 1));
  const size = `${Math.abs(percent)} %`;
  const change = percent < 0 ? `fell by ${size}` : `rose by ${size}`;
  return `With two of five nodes down, turns per second ${percent === 0 ? "stayed the same" : change}.`;
}

export interface Verdict {
  readonly passed: boolean;
  /** Fits one line of a terminal. */
  readonly short: string;
  readonly reasons: readonly string[];
}

/** Judges the run: `found` is the number in the counter at the end. */
export function verdictOf(turns: readonly Turn[], found: number): Verdict {
  const errors = turns.flatMap(({ error }) => error ?? []);
  const succeeded = turns.length - errors.length;
  const lost = Math.max(0, succeeded - found);
  const surplus = Math.max(0, found - turns.length);
  const overlaps = countOverlaps(turns);
  const flaws = [
    ...(surplus > 0 ? [counted(surplus, "INCREMENT") + " TOO MANY"] : []),
    ...(lost > 0 ? [counted(lost, "UPDATE") + " LOST"] : []),
    ...(overlaps > 0 ? [counted(overlaps, "OVERLAP")] : []),
    ...(errors.length > 0 ? [counted(errors.length, "TURN") + " FAILED"] : []),
  ];
  return {
    passed: flaws.length === 0,
    short: flaws.length === 0 ? "No update lost" : flaws.join(", "),
    reasons: [
      `${succeeded} increments made, and the counter is at ${found}.`,
      overlaps === 0
        ? "No two workers were in the critical section at once."
        : `Overlaps, where a worker entered the critical section before another left: ${overlaps}.`,
      ...(errors[0] === undefined ? [] : [`The first turn that failed: ${errors[0]}`]),
    ],
  };
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "S"}`;
}
