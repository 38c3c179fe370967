// Who believed to hold what, and when.

import type { Call, ClientRecord } from "../records.js";
import type { Life, Log } from "./log.js";
import type { Span } from "./spans.js";

export interface Tenure {
  readonly id: string;
  readonly life: Life;
  readonly call: Call;
  readonly keys: readonly string[];
  readonly askedUs: number;
  readonly fromUs: number;
  readonly fence: number | undefined;
  /** Whether it is a reader's. */
  readonly shared: boolean;
  /** The latest end of validity that the library ever told the client. */
  validUntilUs: number;
  /** That, or when the client gave the lock up, was told of its loss, or was dead, if that was sooner. */
  endUs: number;
  released: boolean;
}

export interface Overlap {
  readonly key: string;
  readonly first: Tenure;
  readonly second: Tenure;
  readonly lengthMs: number;
  /** A node lost its data while the first was held, so that it could vote again. */
  readonly acrossDataLoss: boolean;
}

export function tenuresOf(log: Log): Map<string, Tenure> {
  const tenures = new Map<string, Tenure>();
  for (const life of log.lives.flat()) {
    for (const record of life.records) take(tenures, life, record);
  }
  for (const tenure of tenures.values()) {
    const { endUs, validUntilUs, life } = tenure;
    tenure.endUs = Math.min(endUs, validUntilUs, life.diedUs ?? Infinity);
  }
  return tenures;
}

function take(tenures: Map<string, Tenure>, life: Life, record: ClientRecord): void {
  if (record.type === "acquired") {
    const { tenure: id, call, keys, askedUs, atUs: fromUs, fence, shared = false } = record;
    const validUntilUs = fromUs + record.remainingMs * 1_000;
    const known = { id, life, call, keys, askedUs, fromUs, fence, shared };
    tenures.set(id, { ...known, validUntilUs, endUs: Infinity, released: false });
  } else if (record.type === "valid") {
    const tenure = tenures.get(record.tenure);
    if (tenure === undefined) return;
    const untilUs = record.atUs + record.remainingMs * 1_000;
    tenure.validUntilUs = Math.max(tenure.validUntilUs, untilUs);
  } else if (record.type === "lost" || record.type === "ended") {
    const tenure = tenures.get(record.tenure);
    if (tenure === undefined) return;
    tenure.endUs = Math.min(tenure.endUs, record.atUs);
    tenure.released ||= record.type === "ended" && record.how === "released";
  }
}

/** Each tenure that began while another one, of the same key, had validity left; but for readers beside each other. */
export function overlapsOf(tenures: Iterable<Tenure>, losses: readonly Span[]): Overlap[] {
  return togetherOf(tenures, losses).filter(({ first, second }) => !first.shared || !second.shared);
}

/** How many readers began beside which others. */
export function readersTogether(tenures: Iterable<Tenure>): number {
  return togetherOf(tenures, []).filter(({ first, second }) => first.shared && second.shared)
    .length;
}

function togetherOf(tenures: Iterable<Tenure>, losses: readonly Span[]): Overlap[] {
  return [...heldByKey(tenures)].flatMap(([key, own]) => overlapsIn(key, own, losses));
}

/** The tenures that had validity left when they began, in the order in which they did. */
export function heldByKey(tenures: Iterable<Tenure>): Map<string, Tenure[]> {
  const byKey = new Map<string, Tenure[]>();
  for (const tenure of [...tenures].sort((a, b) => a.fromUs - b.fromUs)) {
    if (tenure.endUs <= tenure.fromUs) continue;
    for (const key of tenure.keys) {
      const own = byKey.get(key);
      if (own === undefined) byKey.set(key, [tenure]);
      else own.push(tenure);
    }
  }
  return byKey;
}

/** Whether a node lost its data between the beginnings of the two. */
export function isAcross(losses: readonly Span[], a: Tenure, b: Tenure): boolean {
  const [firstUs, secondUs] = [Math.min(a.fromUs, b.fromUs), Math.max(a.fromUs, b.fromUs)];
  return losses.some(({ fromUs, toUs }) => fromUs < secondUs && toUs > firstUs);
}

function overlapsIn(key: string, tenures: readonly Tenure[], losses: readonly Span[]): Overlap[] {
  const overlaps: Overlap[] = [];
  let running: Tenure[] = [];
  for (const second of tenures) {
    running = running.filter(({ endUs }) => endUs > second.fromUs);
    for (const first of running) {
      const lengthMs = (Math.min(first.endUs, second.endUs) - second.fromUs) / 1_000;
      const acrossDataLoss = isAcross(losses, first, second);
      overlaps.push({ key, first, second, lengthMs, acrossDataLoss });
    }
    running.push(second);
  }
  return overlaps;
}
