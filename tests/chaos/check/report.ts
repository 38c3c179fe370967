// A verdict as people read it.

import type { ClientRecord, FaultKind } from "../records.js";
import { totalMs, unableOf, type Wait } from "./availability.js";
import {
  absences,
  durationOf,
  type Fault,
  faultsOf,
  isClientFault,
  serverStalls,
} from "./faults.js";
import type { Log } from "./log.js";
import { lengthMs, type Span, union, without } from "./spans.js";
import { heldByKey, readersTogether, type Tenure } from "./tenures.js";
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
    ...faultTable(verdict),
    "",
    ...safetyLines(verdict),
    "",
    ...availabilityLines(verdict),
    "",
    ...proofLines(verdict),
    violations.length === 0 ? "No violation." : `VIOLATIONS: ${violations.length}`,
    ...shown.map((violation) => `  ${violation}`),
    ...(more > 0 ? [`  … and ${more} more`] : []),
  ].join("\n");
}

/** Where no holder was stale in its write, fencing had nothing to refuse. */
function proofLines({ log, updates }: Verdict): string[] {
  if (!log.facts.fencing || updates.staleRefused > 0) return [];
  return [
    `${updates.staleWrites} stale writes were attempted, and none refused: this run is no proof of fencing.`,
  ];
}

function runLines(log: Log): string[] {
  const { seed, clientCount, nodeCount, keys, permits, emptyRestarts, fencing, readers, broken } =
    log.facts;
  const flags = [
    ...(fencing ? ["with fencing: the resources refuse a smaller token than they have seen"] : []),
    ...(readers === true ? ["most locks are readers'"] : []),
    ...(emptyRestarts ? ["servers lose their data when killed"] : []),
    ...(broken === "" ? [] : [`broken on purpose: ${broken}`]),
  ];
  const seconds = lengthMs(durationOf(log)) / 1_000;
  return [
    `Seed ${seed}, ${seconds.toFixed(0)} s, ${clientCount} clients, ${nodeCount} nodes, ${keys.length} keys, ${permits} permits`,
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

/** What became of the calls, by what was faulty for the client in question when they ended. */
function faultTable({ log, availability }: Verdict): string[] {
  const faults = faultsOf(log);
  const whole = durationOf(log);
  const header = row("fault", [
    "times",
    "s",
    "acquired",
    "refused",
    "lost",
    "probes",
    "refused",
    "p50 ms",
    "p99 ms",
    "next lock",
    "p50 ms",
    "max ms",
  ]);
  const rowOf = (
    name: string,
    times: number | undefined,
    spansOf: (client: number) => readonly Span[],
  ): string => {
    const next = availability.reactions
      .filter(({ kind }) => kind === name)
      .map(({ waitMs }) => waitMs)
      .sort((a, b) => a - b);
    return row(name, [
      times === undefined ? "" : String(times),
      ...callCells(log, spansOf),
      next.length === 0 ? "" : String(next.length),
      ms(percentile(next, 0.5)),
      ms(next.at(-1) ?? NaN),
    ]);
  };
  const kinds = [...new Set(faults.map(({ kind }) => kind))].sort();
  const restarts = faults
    .filter(({ kind }) => kind === "kill")
    .map(({ toUs }) => ({ fromUs: toUs, toUs: toUs + log.facts.settleMs.kill * 1_000 }));
  return [
    header,
    rowOf("none", undefined, (client) =>
      without(whole, union(faults.filter(({ clients }) => clients.includes(client)))),
    ),
    ...kinds.map((kind) =>
      rowOf(kind, faults.filter((fault) => fault.kind === kind).length, (client) =>
        spansFelt(faults, kind, client),
      ),
    ),
    rowOf("restarted", restarts.length, () => union(restarts)),
    "A client that is frozen or dead does nothing: its rows are what the others do. Restarted is the time",
    "after a kill in which the clients connect again. Next lock: from a fault's beginning to the probe's",
    "next success, for each client that feels it and keeps a majority.",
  ];
}

function spansFelt(faults: readonly Fault[], kind: FaultKind, client: number): Span[] {
  const felt = ({ clients }: Fault): boolean => clients.includes(client) !== isClientFault(kind);
  return union(faults.filter((fault) => fault.kind === kind && felt(fault)));
}

function callCells(log: Log, spansOf: (client: number) => readonly Span[]): string[] {
  let seconds = 0;
  const records: ClientRecord[] = [];
  for (const [client, own] of log.clients.entries()) {
    const spans = spansOf(client);
    seconds += spans.reduce((sum, span) => sum + lengthMs(span), 0) / 1_000;
    records.push(...within(own, spans));
  }
  const count = (type: ClientRecord["type"]): string =>
    String(records.filter((record) => record.type === type).length);
  const probes = records.filter((record) => record.type === "probed");
  const granted = probes.filter(({ why }) => why === undefined);
  const sorted = granted.map(({ atUs, askedUs }) => (atUs - askedUs) / 1_000).sort((a, b) => a - b);
  return [
    (seconds / log.clients.length).toFixed(1),
    count("acquired"),
    count("refused"),
    count("lost"),
    String(granted.length),
    String(probes.length - granted.length),
    ms(percentile(sorted, 0.5)),
    ms(percentile(sorted, 0.99)),
  ];
}

/** Of those in the order of time, the ones in the spans, which are a union. */
function within(records: readonly ClientRecord[], spans: readonly Span[]): ClientRecord[] {
  let index = 0;
  return records.filter(({ atUs }) => {
    while ((spans[index]?.toUs ?? Infinity) <= atUs) index++;
    return (spans[index]?.fromUs ?? Infinity) <= atUs;
  });
}

function safetyLines(verdict: Verdict): string[] {
  const { log, overlaps, updates, losses } = verdict;
  const stale = updates.lost.filter((update) => update.stale !== undefined);
  const frozen = stale.filter((update) => update.frozen).length;
  const own = updates.lost.filter((update) => update.stale === undefined);
  const forgotten = own.filter(({ acrossDataLoss }) => acrossDataLoss).length;
  const forgottenOverlaps = overlaps.filter(({ acrossDataLoss }) => acrossDataLoss).length;
  const awake = losses.filter((loss) => !loss.frozen);
  const earlyMs = awake.map(({ lateMs }) => -lateMs).sort((a, b) => a - b);
  const dataLoss = (count: number): string =>
    log.facts.emptyRestarts ? `${count} more after a node came back empty` : "";
  return [
    line("Overlaps", overlaps.length - forgottenOverlaps, dataLoss(forgottenOverlaps)),
    ...readerLines(verdict),
    line("Writes", updates.writes, `${updates.refused} refused`),
    line(
      "Stale writes attempted",
      updates.staleWrites,
      "landed past the validity, after a look before its end",
    ),
    line("Stale writes refused", updates.staleRefused, `and ${updates.readsRefused} reads`),
    line("Lost updates", own.length - forgotten, dataLoss(forgotten)),
    line(
      "  by holders that stood still past their validity",
      stale.length,
      `${frozen} frozen by the nemesis; no lease prevents these, fencing ${log.facts.fencing ? "must" : "does"}`,
    ),
    line("Writes begun past the validity", updates.unchecked.length),
    line(
      "Losses said by `using`",
      losses.length,
      `${losses.length - awake.length} to frozen clients`,
    ),
    line(
      "  to the others, before the end of the validity",
      `p50 ${ms(percentile(earlyMs, 0.5))}, least ${ms(earlyMs[0] ?? NaN)} ms`,
      `a late event loop excused ${ms(longest(awake.map(({ allowedMs }) => allowedMs)))} ms at most`,
    ),
    ...successionLines(verdict),
  ];
}

function readerLines({ log, tenures, updates }: Verdict): string[] {
  if (log.facts.readers !== true) return [];
  const own = updates.changed.filter(({ stale, acrossDataLoss }) => !stale && !acrossDataLoss);
  const stale = updates.changed.filter((read) => read.stale).length;
  return [
    line("Readers beside others", readersTogether(tenures.values()), "pairs on one resource"),
    line("Read twice under one lock", updates.readTwice),
    line("  changed in between", own.length, `${stale} more by writers that stood still`),
  ];
}

/**
 * How soon resources that were released, or whose holders were killed, found one who waited for them, where
 * that one ran and had a majority.
 */
function successionLines({ log, tenures }: Verdict): string[] {
  const faults = faultsOf(log);
  const unable = log.clients.map((_, client) => unableOf(log, faults, client));
  const pairs = [...heldByKey(tenures.values()).values()].flatMap((own) =>
    own.slice(1).map((next, index) => ({ last: own[index], next })),
  );
  const inWords = (name: string, freeUs: (last: Tenure) => number | undefined): string => {
    const waitsMs = pairs.flatMap(({ last, next }) => {
      const fromUs = last && freeUs(last);
      if (fromUs === undefined || next.keys.length > 1 || next.askedUs >= fromUs) return [];
      // While others read on, the resource was not free.
      if (last?.shared === true) return [];
      return [totalMs(without({ fromUs, toUs: next.fromUs }, unable[next.life.client] ?? []))];
    });
    return line(name, figuresOf(waitsMs), `${waitsMs.length} times`);
  };
  const isDead = ({ life, endUs }: Tenure): boolean => endUs === life.diedUs;
  return [
    inWords("From a release to a waiting holder", ({ released, endUs }) =>
      released ? endUs : undefined,
    ),
    line("Locks that died with their holders", [...tenures.values()].filter(isDead).length),
    inWords("  from the end of the validity to a waiting holder", (last) =>
      isDead(last) ? last.validUntilUs : undefined,
    ),
  ];
}

function availabilityLines({ log, availability }: Verdict): string[] {
  const { judgedMs, waits, reactions, recoveries, limitMs } = availability;
  const clientMs = lengthMs(durationOf(log)) * log.clients.length;
  const own = ownStallsMs(log);
  const late = ownLatenessMs(log);
  return [
    line(
      "Time in which a client had to get locks",
      `${((100 * judgedMs) / clientMs).toFixed(1)} %`,
      "else no majority was up, it was frozen or dead, or an event loop was late",
    ),
    line(
      "Longest unavailability with a majority up",
      `${ms(longest(waits.map(({ waitMs }) => waitMs)))} ms`,
    ),
    distribution("Next lock after a minority's failure", reactions, limitMs),
    distribution("Next lock after a majority answers again", recoveries, limitMs),
    line("Standstills of servers not by the nemesis", own.length, longestOf(own)),
    line("Late event loops not by the nemesis", late.length, longestOf(late)),
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

/** How late the event loops of clients and proxies were while nobody froze or killed them. */
function ownLatenessMs(log: Log): number[] {
  const faults = faultsOf(log);
  const ofProxies = log.nemesis.flatMap((record) =>
    record.type === "stalled" ? [(record.atUs - record.sinceUs) / 1_000] : [],
  );
  const ofClients = log.clients.flatMap((records, client) => {
    const away = absences(faults, client);
    return records.flatMap((record) => {
      if (record.type !== "stalled") return [];
      const { sinceUs, atUs } = record;
      const excused = away.some(({ fromUs, toUs }) => fromUs < atUs && toUs > sinceUs);
      return excused ? [] : [(atUs - sinceUs) / 1_000];
    });
  });
  return [...ofProxies, ...ofClients];
}

function longestOf(lengthsMs: readonly number[]): string {
  return `the longest ${ms(longest(lengthsMs))} ms`;
}

function distribution(name: string, waits: readonly Wait[], limitMs: number): string {
  const waitsMs = waits.map(({ waitMs }) => waitMs);
  const late = waitsMs.filter((waitMs) => waitMs > limitMs).length;
  return line(name, figuresOf(waitsMs), `${waitsMs.length} times, ${late} over ${limitMs} ms`);
}

function figuresOf(lengthsMs: readonly number[]): string {
  const sorted = [...lengthsMs].sort((a, b) => a - b);
  const [p50, p99, max] = [percentile(sorted, 0.5), percentile(sorted, 0.99), sorted.at(-1) ?? NaN];
  return `p50 ${ms(p50)}, p99 ${ms(p99)}, max ${ms(max)} ms`;
}

function longest(lengthsMs: readonly number[]): number {
  return lengthsMs.reduce((most, length) => Math.max(most, length), 0);
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
  return name.padEnd(14) + cells.map((cell) => cell.padStart(10)).join("");
}
