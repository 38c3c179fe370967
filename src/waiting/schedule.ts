/** What a key is kept for, for who is next: three of its slowest recent round trips and so many ms. */
const GRACE_MS = 50;
const LEAST_GRACE_MS = 100;
export const LONGEST_GRACE_MS = 1000;
/** One who is not called asks again after so long at the least. */
const LEAST_POLL_MS = 1;
/** How much later it asks each time that the queue stands still: the key is kept for who is next until it asks. */
const NEXT_POLL_GROWTH = 1.25;
const POLL_GROWTH = 2;
/** After votes that were split, the first in the queue tries again after so long at the least. */
const LEAST_SPLIT_MS = 2;

/** What one node said of a waiter's place. */
export interface Place {
  /** When the keys should be free there, by this host's monotonic clock; Infinity where that is not known. */
  readonly freeMs: number;
  /** How many stand before it. */
  readonly rank: number;
}

/** How often one who is not called asks: how many stood before it, and for how long it did not ask then. */
export interface Poll {
  readonly rank: number;
  readonly stillMs: number;
}

/** How long a key is kept for one who is called. */
export function graceMs(slowestMs: number): number {
  return Math.min(Math.max(3 * slowestMs + GRACE_MS, LEAST_GRACE_MS), LONGEST_GRACE_MS);
}

/** How many stand before a waiter where that is the fewest. */
export function rankIn(places: readonly Place[]): number {
  return Math.min(...places.map(({ rank }) => rank));
}

/**
 * When a quorum of the nodes should be free; the later, the more stand before. Infinity where that is not known.
 *
 * @param pauseMs before the first in the queue attempts, and once more for each that stands before
 */
export function attemptAtMs(
  places: readonly Place[],
  quorum: number,
  slowestMs: number,
  pauseMs: number,
): number {
  const freeMs = places.map((place) => place.freeMs).sort((a, b) => a - b)[quorum - 1] ?? Infinity;
  return freeMs + rankIn(places) * Math.max(slowestMs, 1, pauseMs) + pauseMs;
}

/** The next poll: the sooner, the nearer the turn is, and the later, the longer the queue stands still. */
export function nextPoll(last: Poll | undefined, rank: number, slowestMs: number): Poll {
  const growth = rank === 0 ? NEXT_POLL_GROWTH : POLL_GROWTH;
  const stillMs = last?.rank === rank ? growth * last.stillMs : Math.max(LEAST_POLL_MS, slowestMs);
  return { rank, stillMs };
}

/** The pause after votes that were split once more. */
export function splitPauseMs(lastMs: number, slowestMs: number): number {
  return Math.max(2 * lastMs, 2 * slowestMs, LEAST_SPLIT_MS);
}
