// What became of the guarded resources.

import type { ClientRecord, RegisterLine } from "../records.js";
import { faultsOf } from "./faults.js";
import type { Log } from "./log.js";
import type { Span } from "./spans.js";
import { isAcross, type Tenure } from "./tenures.js";

type Write = ClientRecord & { type: "wrote" };

export interface LostUpdate {
  readonly key: string;
  /** What was lost. */
  readonly lost: string;
  /** What was made without it, and took its place. */
  readonly by: string;
  /**
   * The one of the two that landed after its holder's validity, though the holder had looked and had
   * validity left: the process stood still in between. Undefined where neither did: a broken lock.
   */
  readonly stale: string | undefined;
  /** Whether the nemesis had frozen that holder. */
  readonly frozen: boolean;
  /** A node lost its data between the two acquisitions, so that it could vote again. */
  readonly acrossDataLoss: boolean;
}

/** What a reader read twice under one lock, and found changed. */
export interface ChangedRead {
  readonly key: string;
  readonly token: string;
  /** The write that took the place of what it had read. */
  readonly by: string;
  /** The write landed after its holder's validity, though the holder had looked: the process stood still. */
  readonly stale: boolean;
  readonly acrossDataLoss: boolean;
}

export interface Updates {
  /** Refused ones, too. */
  readonly writes: number;
  readonly refused: number;
  readonly lost: readonly LostUpdate[];
  /** How many readers read again while they held their locks. */
  readonly readTwice: number;
  readonly changed: readonly ChangedRead[];
  /** Writes that landed after their holder's validity, though it had looked: lost update, refused, or neither. */
  readonly staleWrites: number;
  readonly staleRefused: number;
  readonly readsRefused: number;
  /** The writes that were begun with no validity left, which is the client's own fault. */
  readonly unchecked: readonly string[];
  readonly problems: readonly string[];
}

export function updatesOf(
  log: Log,
  tenures: ReadonlyMap<string, Tenure>,
  losses: readonly Span[],
): Updates {
  const writes = new Map<string, Write & { client: number }>();
  for (const [client, records] of log.clients.entries()) {
    for (const record of records) {
      if (record.type === "wrote") writes.set(record.token, { ...record, client });
    }
  }
  const landedUs = new Map(
    [...log.registers.values()].flatMap(writesIn).map(({ token, atUs }) => [token, atUs]),
  );
  const isStale = (token: string): boolean => {
    const write = writes.get(token);
    if (write === undefined || write.remainingMs <= 0) return false;
    const lookUntilUs = write.checkedUs + write.remainingMs * 1_000;
    const validUntilUs = Math.max(lookUntilUs, tenures.get(write.tenure)?.validUntilUs ?? 0);
    return (landedUs.get(token) ?? 0) > validUntilUs;
  };
  const freezes = faultsOf(log).filter(({ kind }) => kind === "client freeze");
  const wasFrozen = (token: string): boolean => {
    const write = writes.get(token);
    if (write === undefined) return false;
    return freezes.some(
      ({ clients, fromUs, toUs }) =>
        clients.includes(write.client) && fromUs < write.atUs && toUs > write.checkedUs,
    );
  };
  const judged = (pair: { key: string; lost: string; by: string }): LostUpdate => {
    const stale = [pair.by, pair.lost].find(isStale);
    const [a, b] = [pair.lost, pair.by].map((token) => tenures.get(tenureOf(token)));
    return {
      ...pair,
      stale,
      frozen: stale !== undefined && wasFrozen(stale),
      acrossDataLoss: a !== undefined && b !== undefined && isAcross(losses, a, b),
    };
  };
  const all = [...writes.values()];
  const stale = all.filter(({ token }) => isStale(token));
  const readings = [...log.registers].flatMap(([key, lines]) => readingsIn(key, lines, tenures));
  return {
    writes: all.length,
    refused: all.filter(({ accepted }) => !accepted).length,
    lost: [...log.registers].flatMap(([key, lines]) => lostIn(key, lines)).map(judged),
    readTwice: readings.length,
    changed: readings.flatMap(({ key, reader, token, writes: between }) =>
      between.map((by) => {
        const writer = tenures.get(tenureOf(by));
        const acrossDataLoss = writer !== undefined && isAcross(losses, reader, writer);
        return { key, token, by, stale: isStale(by), acrossDataLoss };
      }),
    ),
    staleWrites: stale.length,
    staleRefused: stale.filter(({ accepted }) => !accepted).length,
    readsRefused: log.clients.flat().filter(({ type }) => type === "read refused").length,
    unchecked: all.filter(({ remainingMs }) => remainingMs <= 0).map(({ token }) => token),
    problems: [...unmatched(log, tenures, writes)],
  };
}

function writesIn(lines: readonly RegisterLine[]): readonly RegisterLine[] {
  return lines.filter(({ what }) => what === "write");
}

/** A write that was made from another one than the last loses what stands between the two. */
function lostIn(
  key: string,
  lines: readonly RegisterLine[],
): Pick<LostUpdate, "key" | "lost" | "by">[] {
  const accepted = writesIn(lines).filter((line) => line.accepted);
  const position = new Map(accepted.map(({ token }, index) => [token, index]));
  return accepted.flatMap(({ token, read }, index) => {
    const madeFrom = position.get(read) ?? -1;
    return accepted
      .slice(madeFrom + 1, index)
      .map((lost) => ({ key, lost: lost.token, by: token }));
  });
}

interface Reading {
  readonly key: string;
  readonly reader: Tenure;
  readonly token: string;
  /** What was accepted between its two reads. */
  readonly writes: readonly string[];
}

/** Of each reader, what was written between its two reads; but where it read again after its lock had ended. */
function readingsIn(
  key: string,
  lines: readonly RegisterLine[],
  tenures: ReadonlyMap<string, Tenure>,
): Reading[] {
  const firstAt = new Map<string, number>();
  return lines.flatMap(({ what, token, atUs }, index) => {
    const reader = tenures.get(tenureOf(token));
    if (what !== "read" || reader?.shared !== true) return [];
    const from = firstAt.get(token);
    if (from === undefined) firstAt.set(token, index);
    if (from === undefined || atUs > reader.endUs) return [];
    const between = writesIn(lines.slice(from, index)).filter(({ accepted }) => accepted);
    return [{ key, reader, token, writes: between.map((write) => write.token) }];
  });
}

/**
 * The clients' logs and the registers tell of the same writes, but for one a tenure that a client was
 * killed over before it could tell.
 */
function* unmatched(
  log: Log,
  tenures: ReadonlyMap<string, Tenure>,
  told: ReadonlyMap<string, Write>,
): Generator<string> {
  const landed = new Set<string>();
  const cutShort = new Set<Tenure>();
  for (const [key, lines] of log.registers) {
    for (const { token, read, accepted } of writesIn(lines)) {
      if (landed.has(token)) yield `register ${key} has ${token} twice`;
      if (read !== "" && !landed.has(read)) yield `${token} was made from ${read}, which never was`;
      landed.add(token);
      const write = told.get(token);
      if (write !== undefined) {
        if (write.accepted !== accepted) yield `of ${token} the client was not told what became`;
        continue;
      }
      const tenure = tenures.get(tenureOf(token));
      if (tenure?.life.diedUs === undefined || cutShort.has(tenure)) {
        yield `register ${key} has ${token}, of which no client tells`;
      } else cutShort.add(tenure);
    }
  }
  for (const token of told.keys()) {
    if (!landed.has(token)) yield `${token} was written, but is in no register`;
  }
}

/** A token is its tenure and a number. */
export function tenureOf(token: string): string {
  return token.slice(0, token.lastIndexOf("."));
}
