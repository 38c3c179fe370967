import type { Instant } from "../runtime/environment.js";

/** What a quorum grants: a ttl, counted from just before the first command was sent, minus the drift allowance. */
export interface Term {
  readonly since: Instant;
  readonly ttlMs: number;
  readonly driftMs: number;
}

/**
 * Returns the part of the ttl that is given up because the clocks of servers and client may run at different rates, in ms.
 *
 * Source: the Redlock description, "The Redlock algorithm": the validity is reduced by a clock drift
 * that is a share of the ttl; the further 2 ms cover Redis's expiry precision of 1 ms, as the
 * description's reference implementation has it.
 */
export function driftMs(ttlMs: number, driftFactor: number): number {
  return Math.round(ttlMs * driftFactor) + 2;
}

/**
 * Returns the time elapsed in ms: the larger of what the two clocks say. So a wall clock that jumps forward, or a
 * machine that was suspended while its monotonic clock stood still, can only shorten a lock.
 */
export function elapsedMs(since: Instant, now: Instant): number {
  return Math.max(now.monotonicMs - since.monotonicMs, now.wallMs - since.wallMs);
}

/**
 * Returns what is left of a term, in ms; zero or negative once it is over.
 *
 * Source: the Redlock description, step 4: "its validity time is considered to be the initial
 * validity time minus the time elapsed", less the drift.
 */
export function validityMs(term: Term, now: Instant): number {
  return term.ttlMs - elapsedMs(term.since, now) - term.driftMs;
}

/** Returns the end of a term by this host's wall clock, in epoch ms. */
export function expirationMs(term: Term): number {
  return term.since.wallMs + term.ttlMs - term.driftMs;
}
