import type { FoundKey } from "../operations/inspect.js";
import { reservedFor } from "../operations/queue.js";
import { quorumOf } from "./round.js";

/** What a quorum of nodes holds under a key. */
export interface Agreement {
  readonly value: string;
  /** Ms until fewer than a quorum hold it; Infinity without an expiry. */
  readonly remainingMs: number;
}

/**
 * Returns the lock's value that a quorum of nodes holds under a key; undefined if there is none.
 *
 * @param found what each node that replied holds
 */
export function agreedValue(found: readonly FoundKey[], nodeCount: number): Agreement | undefined {
  const quorum = quorumOf(nodeCount);
  const remainingMs = new Map<string, number[]>();
  for (const { type, value, pttl } of found) {
    if (type !== "string" || reservedFor(value) !== undefined) continue;
    const leftMs = pttl === -1 ? Infinity : Math.max(0, pttl);
    remainingMs.set(value, [...(remainingMs.get(value) ?? []), leftMs]);
  }
  for (const [value, all] of remainingMs) {
    const last = all.sort((a, b) => b - a)[quorum - 1];
    if (last !== undefined) return { value, remainingMs: last };
  }
  return undefined;
}
