import type { QueueReply } from "../operations/queue.js";

/** A key is reserved for the next waiter for three of its slowest recent round trips plus this. */
const GRACE_MS = 50;
const LEAST_GRACE_MS = 100;
export const LONGEST_GRACE_MS = 1000;
/** A key has expired once the node's clock, which has whole ms, has passed its expiry. */
const EXPIRY_MS = 2;
/** A waiter that no quorum can notify polls at this interval at the least. */
const LEAST_POLL_MS = 1;
/**
 * By how much the polling interval grows while the queue does not move: for the first waiter, for whom the key stays
 * reserved until it polls, and for the others.
 */
const NEXT_POLL_GROWTH = 1.25;
const POLL_GROWTH = 2;
/** After a split vote the first waiter pauses at least this long. */
const LEAST_SPLIT_MS = 2;

/** A waiter's place in one node's queue. */
export interface Place {
  /** When the keys should be free on that node, by this host's monotonic clock; Infinity if unknown. */
  readonly freeMs: number;
  /** How many waiters are before it. */
  readonly rank: number;
  /** Of a waiter for a permit: when each slot should be free. */
  readonly slotsFreeMs?: readonly number[] | undefined;
}

/** Returns a waiter's place in the queue of a node that replied at `nowMs`. */
export function placeIn(
  { isOpen, leftMs = Infinity, rank, slots }: QueueReply,
  nowMs: number,
): Place {
  const freeMs = isOpen ? nowMs : nowMs + leftMs + EXPIRY_MS;
  if (slots === undefined) return { freeMs, rank };
  const slotFreeMs = (ms: number): number => {
    if (ms < 0) return Infinity;
    return ms === 0 ? nowMs : nowMs + ms + EXPIRY_MS;
  };
  return { freeMs, rank, slotsFreeMs: slots.map(slotFreeMs) };
}

/** Returns a waiter's places in the queue as a waiter for one slot. */
export function placesOf(places: readonly Place[], slot: number): readonly Place[] {
  return places.map(({ rank, slotsFreeMs }) => ({ rank, freeMs: slotsFreeMs?.[slot] ?? Infinity }));
}

/** The last poll of a waiter that no quorum can notify: its rank then, and the interval before it. */
export interface Poll {
  readonly rank: number;
  readonly stillMs: number;
}

/** Returns how long a key stays reserved for a waiter that was notified, in ms. */
export function graceMs(slowestMs: number): number {
  return Math.min(Math.max(3 * slowestMs + GRACE_MS, LEAST_GRACE_MS), LONGEST_GRACE_MS);
}

/** Returns the smallest number of waiters before this one, over all nodes. */
export function rankIn(places: readonly Place[]): number {
  return Math.min(...places.map(({ rank }) => rank));
}

/**
 * Returns when a quorum of nodes should be free, plus a delay for each waiter before this one. Infinity if unknown.
 *
 * @param pauseMs the pause of the first waiter, and of each further one in addition
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

/** Returns the next poll: sooner for a waiter near the head, later the longer the queue does not move. */
export function nextPoll(last: Poll | undefined, rank: number, slowestMs: number): Poll {
  const growth = rank === 0 ? NEXT_POLL_GROWTH : POLL_GROWTH;
  const stillMs = last?.rank === rank ? growth * last.stillMs : Math.max(LEAST_POLL_MS, slowestMs);
  return { rank, stillMs };
}

/** Returns the pause after another split vote, in ms. */
export function splitPauseMs(lastMs: number, slowestMs: number): number {
  return Math.max(2 * lastMs, 2 * slowestMs, LEAST_SPLIT_MS);
}
