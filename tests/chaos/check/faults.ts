// What the nemesis did, as spans.

import type { ClientFaultKind, FaultKind } from "../records.js";
import type { Log } from "./log.js";
import { type Span, union, whereAtLeast } from "./spans.js";

export interface Fault extends Span {
  readonly kind: FaultKind;
  readonly node: number | undefined;
  readonly clients: readonly number[];
}

export function faultsOf(log: Log): Fault[] {
  const { nemesis } = log;
  const endUs = durationOf(log).toUs;
  const healedUs = new Map<number, number>();
  for (const record of nemesis) {
    if (record.type === "healed") healedUs.set(record.fault, record.atUs);
  }
  return nemesis.flatMap((record) => {
    if (record.type !== "began") return [];
    const { kind, node, clients, atUs, fault } = record;
    return [{ kind, node, clients, fromUs: atUs, toUs: healedUs.get(fault) ?? endUs }];
  });
}

/** The time from the first to the last record of all clients. */
export function durationOf({ clients }: Log): Span {
  let [fromUs, toUs] = [Infinity, -Infinity];
  for (const { atUs } of clients.flat()) {
    fromUs = Math.min(fromUs, atUs);
    toUs = Math.max(toUs, atUs);
  }
  return { fromUs, toUs };
}

/**
 * When too few nodes were up for this client to make a quorum. A node is up for a client while it answers
 * and the client is connected to it; so after a fault it is down for as long as connecting may take.
 * That is the client library's doing, not the node's: `settle` false leaves it out, so that both can
 * be told.
 */
export function withoutMajority(
  log: Log,
  faults: readonly Fault[],
  client: number,
  settle: boolean,
): Span[] {
  const { nodeCount, settleMs } = log.facts;
  const still = union([...stalls(log, client), ...absences(faults, client)]);
  const byNode = Array.from({ length: nodeCount }, (_, node) =>
    union([
      ...serverStalls(log, node),
      ...faults
        .filter((fault) => fault.node === node && fault.clients.includes(client))
        .map(({ kind, fromUs, toUs }) => {
          const runMs = !settle || isClientFault(kind) ? 0 : settleMs[kind];
          return { fromUs, toUs: afterRunning(toUs, runMs, still) };
        }),
    ]),
  );
  const quorum = Math.floor(nodeCount / 2) + 1;
  return whereAtLeast(nodeCount - quorum + 1, byNode.flat());
}

/** When a client has run for `runMs`, counted from `fromUs`; it does not reconnect while it stands still. */
function afterRunning(fromUs: number, runMs: number, still: readonly Span[]): number {
  let [atUs, leftUs] = [fromUs, runMs * 1_000];
  for (const { fromUs: sinceUs, toUs } of still) {
    if (toUs <= atUs) continue;
    if (sinceUs >= atUs + leftUs) break;
    leftUs -= Math.max(0, sinceUs - atUs);
    atUs = toUs;
  }
  return atUs + leftUs;
}

/** When this server stood still, by itself or by the nemesis. */
export function serverStalls({ nemesis }: Log, node: number): Span[] {
  return nemesis.flatMap((record) =>
    record.type === "server stalled" && record.node === node
      ? [{ fromUs: record.sinceUs, toUs: record.atUs }]
      : [],
  );
}

/** When nodes were down and came back without their data: what they had granted, they may grant again. */
export function dataLosses(log: Log): Span[] {
  return log.facts.emptyRestarts ? faultsOf(log).filter(({ kind }) => kind === "kill") : [];
}

/** When the event loop of this client, or of the process with the proxies, was late. */
export function stalls(log: Log, client: number): Span[] {
  return [...log.nemesis, ...(log.clients[client] ?? [])].flatMap((record) =>
    record.type === "stalled" ? [{ fromUs: record.sinceUs, toUs: record.atUs }] : [],
  );
}

/** When this client was frozen, or killed and no other in its place. */
export function absences(faults: readonly Fault[], client: number): Span[] {
  return faults.filter(({ kind, clients }) => isClientFault(kind) && clients.includes(client));
}

export function isClientFault(kind: FaultKind): kind is ClientFaultKind {
  return kind === "client freeze" || kind === "client kill";
}
