// Whether a lock could be had while a majority of nodes was up. Judged by the probes: each client asks,
// all the time, for a resource of its own, which nobody else locks.
//
// What the log proves to be no waiting for the library is taken off: time without a majority, time in
// which the client was frozen or dead, and time in which an event loop that had to turn did not. Less
// than `nodeTimeout` of it is a delay, and its length is taken off the wait. More of it ends whatever
// attempt was made in it, so that the wait begins anew after it.

import type { FaultKind } from "../records.js";
import { absences, durationOf, type Fault, faultsOf, stalls, withoutMajority } from "./faults.js";
import type { Log } from "./log.js";
import { lengthMs, type Span, union, without } from "./spans.js";

/** How long a client was without a lock that it could have had. */
export interface Wait {
  readonly client: number;
  readonly fromUs: number;
  readonly waitMs: number;
}

export interface Reaction extends Wait {
  readonly kind: FaultKind;
}

export interface Availability {
  /** Of all clients together: the time that was not taken off. */
  readonly judgedMs: number;
  /** From each probe's success to the next. */
  readonly waits: readonly Wait[];
  /** From the beginning of each failure of a minority, as each client feels it, to its next success. */
  readonly reactions: readonly Reaction[];
  /** From the moment at which a majority answered again, connecting included, to the next success. */
  readonly recoveries: readonly Wait[];
  readonly limitMs: number;
}

export function availabilityOf(log: Log): Availability {
  const faults = faultsOf(log);
  const clients = log.clients.map((_, client) => clientAvailability(log, faults, client));
  return {
    judgedMs: clients.reduce((sum, { judgedMs }) => sum + judgedMs, 0),
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
  const lasting = (spans: readonly Span[]): Span[] =>
    spans.filter((span) => lengthMs(span) >= log.facts.nodeTimeoutMs);
  const waitWithout = (gone: readonly Span[]): ((span: Span) => Wait) => {
    const breaks = lasting(gone);
    return (span) => {
      const pieces = without(span, breaks).map((piece) => totalMs(without(piece, gone)));
      return { client, fromUs: span.fromUs, waitMs: Math.max(0, ...pieces) };
    };
  };
  const gone = unableOf(log, faults, client);
  const wait = waitWithout(gone);
  const searches = searchesOf(log, client);
  const spanToSuccess = (fromUs: number): Span[] => {
    const next = searches.find(({ toUs }) => toUs > fromUs);
    return next === undefined ? [] : [{ fromUs, toUs: next.toUs }];
  };
  const breaks = lasting(gone);
  const majorityHeld = (span: Span): boolean =>
    !breaks.some(({ fromUs, toUs }) => fromUs < span.toUs && toUs > span.fromUs);
  const felt = faults.filter(({ node, clients }) => node !== undefined && clients.includes(client));
  const unanswered = withoutMajority(log, faults, client, false);
  const recovery = waitWithout(union([...unanswered, ...awayOf(log, faults, client)]));
  return {
    judgedMs: totalMs(without(durationOf(log), gone)),
    waits: searches.map(wait),
    reactions: felt.flatMap(({ kind, fromUs }) =>
      spanToSuccess(fromUs)
        .filter(majorityHeld)
        .map((span) => ({ kind, ...wait(span) })),
    ),
    recoveries: unanswered.flatMap(({ toUs }) => spanToSuccess(toUs)).map(recovery),
  };
}

/** When no library could have got this client a lock: no majority was up, or the client did not run. */
export function unableOf(log: Log, faults: readonly Fault[], client: number): Span[] {
  return union([...withoutMajority(log, faults, client, true), ...awayOf(log, faults, client)]);
}

function awayOf(log: Log, faults: readonly Fault[], client: number): Span[] {
  return [...absences(faults, client), ...stalls(log, client)];
}

export function totalMs(spans: readonly Span[]): number {
  return spans.reduce((sum, span) => sum + lengthMs(span), 0);
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
