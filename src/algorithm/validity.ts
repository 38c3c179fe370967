import type { Instant } from "../runtime/environment.js";

/**
 * What one decided round grants: from just before its first command was sent, a ttl, less the drift
 * allowance.
 */
export interface Term {
  readonly since: Instant;
  readonly ttlMs: number;
  readonly driftMs: number;
}

/**
 * The part of the ttl given up because the servers' clocks and ours may run at different rates.
 *
 * Source: the Redlock description, "The Redlock algorithm": the validity is reduced by a clock drift
 * that is a share of the ttl; the further 2 ms cover Redis's expiry precision of 1 ms, as the
 * description's reference implementation has it.
 */
export function driftMs(ttlMs: number, driftFactor: number): number {
  return Math.round(ttlMs * driftFactor) + 2;
}

/**
 * The larger of what the two clocks say: a wall clock that jumped forward, or a machine that was
 * suspended while its monotonic clock stood still, can only shorten a lock.
 */
export function elapsedMs(since: Instant, now: Instant): number {
  return Math.max(now.monotonicMs - since.monotonicMs, now.wallMs - since.wallMs);
}

/**
 * What is left of a term, in ms; not positive once it is over.
 *
 * Source: the Redlock description, step 4: "its validity time is considered to be the initial
 * validity time minus the time elapsed", less the drift.
 */
export function validityMs(term: Term, now: Instant): number {
  return term.ttlMs - elapsedMs(term.since, now) - term.driftMs;
}

/** When the term ends by this host's wall clock, in epoch ms. */
export function expirationMs(term: Term): number {
  return term.since.wallMs + term.ttlMs - term.driftMs;
}
