// Whether the fencing tokens do what they are for.

import { isGuardedByPermit, type RegisterLine } from "../records.js";
import type { Log } from "./log.js";
import type { Span } from "./spans.js";
import { heldByKey, isAcross, type Tenure } from "./tenures.js";
import { tenureOf } from "./updates.js";

/** What a run with fencing did wrong, in words. Lost updates are told apart. */
export function fencingViolations(
  log: Log,
  tenures: ReadonlyMap<string, Tenure>,
  losses: readonly Span[],
): string[] {
  if (!log.facts.fencing) return [];
  const byKey = [...heldByKey(tenures.values())].filter(([key]) => !isGuardedByPermit(key));
  return [
    ...byKey.flatMap(([key, own]) => [...notGrowing(key, own, losses)]),
    ...[...log.registers].flatMap(([key, lines]) => [
      ...staleAccepted(key, lines),
      ...freshRefused(key, lines, tenures, losses),
    ]),
  ];
}

/** Of two locks on a key the later has the larger token. A lock that was handed over keeps its own. */
function* notGrowing(
  key: string,
  tenures: readonly Tenure[],
  losses: readonly Span[],
): Generator<string> {
  let largest: Tenure | undefined;
  for (const tenure of tenures) {
    const { id, fence, call } = tenure;
    if (fence === undefined) {
      yield `${id} has no fencing token`;
      continue;
    }
    const least = largest?.fence ?? 0;
    if (fence > least) largest = tenure;
    else if (largest !== undefined && !isAcross(losses, largest, tenure)) {
      if (call === "adopt" && fence === least) continue;
      yield `tokens on ${key}: ${id} has ${fence}, ${largest.id} before it had ${least}`;
    }
  }
}

/** The resource is to refuse a token that is smaller than one it has seen. */
function* staleAccepted(key: string, lines: readonly RegisterLine[]): Generator<string> {
  let seen = 0;
  for (const { what, token, fence = 0, accepted } of lines) {
    if (!accepted) continue;
    if (fence < seen) {
      yield `stale ${what} on ${key}: ${token} was accepted with ${fence} after ${seen}`;
    }
    seen = Math.max(seen, fence);
  }
}

/** Only a holder whose lock is over may be refused. */
function* freshRefused(
  key: string,
  lines: readonly RegisterLine[],
  tenures: ReadonlyMap<string, Tenure>,
  losses: readonly Span[],
): Generator<string> {
  for (const { what, token, atUs, accepted } of lines) {
    const tenure = tenures.get(tenureOf(token));
    if (accepted || tenure === undefined || atUs > tenure.endUs) continue;
    const leftMs = (tenure.endUs - atUs) / 1_000;
    if (losses.some(({ fromUs, toUs }) => fromUs < atUs && toUs > tenure.askedUs)) continue;
    yield `fresh ${what} on ${key}: ${token} was refused, with ${leftMs.toFixed(1)} ms left`;
  }
}
