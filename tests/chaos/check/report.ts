// A verdict as people read it.

import type { ClientRecord, FaultKind } from "../records.js";
import type { Wait } from "./availability.js";
import { durationOf, type Fault, faultsOf, serverStalls } from "./faults.js";
import type { Log } from "./log.js";
import { lengthMs, type Span, union, without } from "./spans.js";
import type { Verdict } from "./verdict.js";

const VIOLATIONS_SHOWN = 10;

export function reportOf(verdict: Verdict): string {
  const { log, violations } = verdict;
  const shown = violations.slice(0, VIOLATIONS_SHOWN);
  const more = violations.length - shown.length;
  return [
    ...runLines(log),
    "",
    ...callLines(log),
    "",
    ...faultTable(log),
    "",
    ...safetyLines(verdict),
    "",
    ...availabilityLines(verdict),
    "",
    violations.length === 0 ? "No violation." : `VIOLATIONS: ${violations.length}`,
    ...shown.map((violation) => `  ${violation}`),
    ...(more > 0 ? [`  … and ${more} more`] : []),
  ].join("\n");
}

function runLines(log: Log): string[] {
  const { seed, clientCount, nodeCount, keys, emptyRestarts, broken } = log.facts;
  const flags = [
    ...(emptyRestarts ? ["servers lose their data when killed"] : []),
    ...(broken === "" ? [] : [`broken on purpose: ${broken}`]),
  ];
  const seconds = lengthMs(durationOf(log)) / 1_000;
  return [
    `Seed ${seed}, ${seconds.toFixed(0)} s, ${clientCount} clients, ${nodeCount} nodes, ${keys.length} keys`,
    ...flags,
  ];
}

function callLines(log: Log): string[] {
  const records = log.clients.flat();
  const ofType = <T extends ClientRecord["type"]>(type: T): (ClientRecord & { type: T })[] =>
    records.filter((record): record is ClientRecord & { type: T } => record.type === type);
  const [acquired, refused, lost] = [ofType("acquired"), ofType("refused"), ofType("lost")];
  const probes = ofType("probed");
  const granted = probes.filter(({ why }) => why === undefined).length;
  const operations = acquired.length + refused.length + probes.length;
  return [
    line("Operations", operations),
    line("Acquired", acquired.length, tally(acquired.map(({ call }) => call))),
    line("Refused", refused.length, tally(refused.map(({ call, why }) => `${call} ${why}`))),
    line("Lost", lost.length, tally(lost.map(({ call, why }) => `${call}: ${why}`))),
    line("Handed over", ofType("ended").filter(({ how }) => how === "handed over").length),
    line("Probes granted", granted, `${probes.length - granted} refused`),
    line("Writes held back", ofType("held back").length, "too little validity left"),
  ];
}

interface Acquisition {
  readonly atUs: number;
  readonly latencyMs: number;
  readonly contended: boolean;
}

/** Acquisitions by what was faulty, for the client in question, when they were granted. */
function faultTable(log: Log): string[] {
  const faults = faultsOf(log);
  const whole = durationOf(log);
  const kinds = [...new Set(faults.map(({ kind }) => kind))].sort();
  const header = row("fault", [
    "times",
    "s",
    "acquired",
    "probes",
    "probe p50",
    "probe p99",
    "max",
  ]);
  const rows = kinds.map((kind) =>
    faultRow(kind, log, faults.filter((fault) => fault.kind === kind).length, (client) =>
      spansFelt(faults, kind, client),
    ),
  );
  const none = faultRow("none", log, undefined, (client) =>
    without(whole, union(faults.filter(({ clients }) => clients.includes(client)))),
  );
  return [header, ...rows, none];
}

function spansFelt(faults: readonly Fault[], kind: FaultKind, client: number): Span[] {
  // What others do while a client is frozen; what that one does is nothing.
  const felt = (fault: Fault): boolean =>
    kind === "client freeze" ? !fault.clients.includes(client) : fault.clients.includes(client);
  return union(faults.filter((fault) => fault.kind === kind && felt(fault)));
}

function faultRow(
  name: string,
  log: Log,
  times: number | undefined,
  spansOf: (client: number) => readonly Span[],
): string {
  let seconds = 0;
  const acquisitions: Acquisition[] = [];
  for (const [client, records] of log.clients.entries()) {
    const spans = spansOf(client);
    seconds += spans.reduce((sum, span) => sum + lengthMs(span), 0) / 1_000;
    acquisitions.push(...within(acquisitionsOf(records), spans));
  }
  const probes = acquisitions.filter(({ contended }) => !contended);
  const sorted = probes.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  return row(name, [
    times === undefined ? "" : String(times),
    (seconds / log.clients.length).toFixed(1),
    String(acquisitions.length - probes.length),
    String(probes.length),
    ms(percentile(sorted, 0.5)),
    ms(percentile(sorted, 0.99)),
    ms(sorted.at(-1) ?? NaN),
  ]);
}

function acquisitionsOf(records: readonly ClientRecord[]): Acquisition[] {
  return records.flatMap((record) => {
    const isProbe = record.type === "probed" && record.why === undefined;
    if (!isProbe && record.type !== "acquired") return [];
    const { atUs, askedUs } = record;
    return [{ atUs, latencyMs: (atUs - askedUs) / 1_000, contended: !isProbe }];
  });
}

/** Of those in the order of time, the ones in the spans, which are a union. */
function within(acquisitions: readonly Acquisition[], spans: readonly Span[]): Acquisition[] {
  let index = 0;
  return acquisitions.filter(({ atUs }) => {
    while ((spans[index]?.toUs ?? Infinity) <= atUs) index++;
    return (spans[index]?.fromUs ?? Infinity) <= atUs;
  });
}

function safetyLines({ overlaps, updates }: Verdict): string[] {
  const excused = updates.lost.filter(({ stale }) => stale !== undefined);
  const frozen = excused.filter((update) => update.frozen).length;
  return [
    line("Overlaps", overlaps.length),
    line("Writes", updates.writes),
    line("Lost updates", updates.lost.length - excused.length),
    line(
      "  by holders that stood still past their validity",
      excused.length,
      `${frozen} frozen by the nemesis; no lease prevents these, fencing does`,
    ),
    line("Writes that landed past the validity", updates.staleWrites),
    line("Writes begun past the validity", updates.uncheckedWrites),
  ];
}

function availabilityLines({ log, availability }: Verdict): string[] {
  const { waits, reactions, recoveries, limitMs } = availability;
  const stalls = [...log.nemesis, ...log.clients.flat()].flatMap((record) =>
    record.type === "stalled" ? [(record.atUs - record.sinceUs) / 1_000] : [],
  );
  const own = ownStallsMs(log);
  return [
    line("Longest unavailability with a majority up", `${ms(longest(waits))} ms`),
    distribution("Next lock after a minority's failure", reactions, limitMs),
    distribution("Next lock after a majority was back", recoveries, limitMs),
    line("Standstills of servers not by the nemesis", own.length, longestOf(own)),
    line("Standstills of clients and proxies", stalls.length, longestOf(stalls)),
  ];
}

/** The servers' stalls that no fault of theirs explains. */
function ownStallsMs(log: Log): number[] {
  const faults = faultsOf(log).filter(({ kind }) => kind === "freeze" || kind === "kill");
  return Array.from({ length: log.facts.nodeCount }, (_, node) => {
    const own = faults.filter((fault) => fault.node === node);
    return serverStalls(log, node).filter(
      (stall) => !own.some(({ fromUs, toUs }) => fromUs < stall.toUs && toUs > stall.fromUs),
    );
  })
    .flat()
    .map(lengthMs);
}

function longestOf(lengthsMs: readonly number[]): string {
  return `the longest ${ms(lengthsMs.reduce((most, length) => Math.max(most, length), 0))} ms`;
}

function distribution(name: string, waits: readonly Wait[], limitMs: number): string {
  const sorted = waits.map(({ waitMs }) => waitMs).sort((a, b) => a - b);
  const late = sorted.filter((waitMs) => waitMs > limitMs).length;
  const figures = `p50 ${ms(percentile(sorted, 0.5))}, p99 ${ms(percentile(sorted, 0.99))}, max ${ms(sorted.at(-1) ?? NaN)} ms`;
  return line(name, figures, `${sorted.length} times, ${late} over ${limitMs} ms`);
}

function longest(waits: readonly Wait[]): number {
  return waits.reduce((most, { waitMs }) => Math.max(most, waitMs), 0);
}

function tally(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${count} ${name}`)
    .join(", ");
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}

function ms(value: number): string {
  return Number.isNaN(value) ? "-" : value.toFixed(1);
}

function line(name: string, value: number | string, detail = ""): string {
  const text = `${name.padEnd(52)}${value}`;
  return detail === "" ? text : `${text}  (${detail})`;
}

function row(name: string, cells: readonly string[]): string {
  return name.padEnd(14) + cells.map((cell) => cell.padStart(11)).join("");
}
