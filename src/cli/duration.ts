import { InvalidArgumentError } from "commander";

const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Reads a duration such as `500ms`, `30s`, `5m` or `1.5h`. Returns ms; undefined if it is none. */
export function durationMs(text: string): number | undefined {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Math.round(Number(number) * (UNITS_MS[unit] ?? NaN));
  return Number.isSafeInteger(ms) ? ms : undefined;
}

/** The longest time of a timer of Node: a longer one would ring at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Parses a duration that one timer of Node can wait for. */
export function interval(text: string): number {
  const ms = duration(text);
  if (ms > 0 && ms <= LONGEST_TIMER_MS) return ms;
  throw new InvalidArgumentError("Give a time from 1ms to 500h.");
}

/** Parses a duration for an option of a command. */
export function duration(text: string): number {
  const ms = durationMs(text);
  if (ms === undefined) {
    throw new InvalidArgumentError("Give a number with a unit, such as 500ms, 30s, 5m or 1h.");
  }
  return ms;
}
