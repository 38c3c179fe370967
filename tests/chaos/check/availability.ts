// Whether a lock could be had while a majority of nodes was there. Judged by the probes: each client's
// own resource, which nobody else locks.

import type { Log } from "./log.js";
import { type Fault, faultsOf, standstill, withoutMajority } from "./faults.js";
import { lengthMs, type Span, union, without } from "./spans.js";

/** How long a client was without a lock that it could have had. */
export interface Wait {
  readonly client: number;
  readonly fromUs: number;
  readonly waitMs: number;
}

export interface Availability {
  /** From each probe's success to the next, without the time in which it could not be. */
  readonly waits: readonly Wait[];
  /** From each failure of a minority, as each client feels it, to that client's next success. */
  readonly reactions: readonly Wait[];
  /** From the end of each time without a majority to the next success. */
  readonly recoveries: readonly Wait[];
  readonly limitMs: number;
}

export function availabilityOf(log: Log): Availability {
  const faults = faultsOf(log);
  const clients = log.clients.map((_, client) => clientAvailability(log, faults, client));
  return {
    waits: clients.flatMap(({ waits }) => waits),
    reactions: clients.flatMap(({ reactions }) => reactions),
    recoveries: clients.flatMap(({ recoveries }) => recoveries),
    limitMs: 2 * log.facts.nodeTimeoutMs,
  };
}

function clientAvailability(
  log: Log,
  faults: readonly Fault[],
  client: number,
): Omit<Availability, "limitMs"> {
  const lost = withoutMajority(log, faults, client);
  const excused = union([...lost, ...standstill(log, faults, client)]);
  const wait = (span: Span): Wait => {
    // A pause of any kind costs a new attempt: what counts is the longest time without one.
    const pieces = without(span, excused).map(lengthMs);
    return { client, fromUs: span.fromUs, waitMs: Math.max(0, ...pieces) };
  };
  const searches = searchesOf(log, client);
  const spanToSuccess = (fromUs: number): Span[] => {
    const next = searches.find(({ toUs }) => toUs > fromUs);
    return next === undefined ? [] : [{ fromUs, toUs: next.toUs }];
  };
  const majorityHeld = (span: Span): boolean =>
    !lost.some(({ fromUs, toUs }) => fromUs < span.toUs && toUs > span.fromUs);
  const felt = faults.filter(
    ({ node, clients, fromUs }) =>
      node !== undefined && clients.includes(client) && !contains(excused, fromUs),
  );
  return {
    waits: searches.map(wait),
    reactions: felt
      .flatMap(({ fromUs }) => spanToSuccess(fromUs))
      .filter(majorityHeld)
      .map(wait),
    recoveries: lost.flatMap(({ toUs }) => spanToSuccess(toUs)).map(wait),
  };
}

/** Each from one success to the next, the release in between included; the last may have none. */
function searchesOf(log: Log, client: number): Span[] {
  const searches: Span[] = [];
  let fromUs: number | undefined;
  let lastUs = 0;
  for (const record of log.clients[client] ?? []) {
    if (record.type !== "probed") continue;
    fromUs ??= record.askedUs;
    lastUs = record.atUs;
    if (record.why !== undefined) continue;
    searches.push({ fromUs, toUs: record.atUs });
    fromUs = record.atUs;
  }
  if (fromUs !== undefined && lastUs > fromUs) searches.push({ fromUs, toUs: lastUs });
  return searches;
}

function contains(spans: readonly Span[], atUs: number): boolean {
  return spans.some(({ fromUs, toUs }) => fromUs <= atUs && atUs < toUs);
}
