// Who believed to hold what, and when.

import type { ClientRecord } from "../records.js";
import type { Log } from "./log.js";

export interface Tenure {
  readonly id: string;
  readonly client: number;
  readonly keys: readonly string[];
  readonly fromUs: number;
  /** The latest end of validity that the library ever told the client. */
  validUntilUs: number;
  /** That, or when the client gave the lock up or was told of its loss, if that was sooner. */
  endUs: number;
}

export interface Overlap {
  readonly key: string;
  readonly first: Tenure;
  readonly second: Tenure;
  readonly lengthMs: number;
}

export function tenuresOf(log: Log): Map<string, Tenure> {
  const tenures = new Map<string, Tenure>();
  for (const [client, records] of log.clients.entries()) {
    for (const record of records) take(tenures, client, record);
  }
  for (const tenure of tenures.values()) {
    tenure.endUs = Math.min(tenure.endUs, tenure.validUntilUs);
  }
  return tenures;
}

function take(tenures: Map<string, Tenure>, client: number, record: ClientRecord): void {
  if (record.type === "acquired") {
    const { tenure: id, keys, atUs } = record;
    const validUntilUs = atUs + record.remainingMs * 1_000;
    tenures.set(id, { id, client, keys, fromUs: atUs, validUntilUs, endUs: Infinity });
  } else if (record.type === "valid") {
    const tenure = tenures.get(record.tenure);
    if (tenure === undefined) return;
    const untilUs = record.atUs + record.remainingMs * 1_000;
    tenure.validUntilUs = Math.max(tenure.validUntilUs, untilUs);
  } else if (record.type === "lost" || record.type === "ended") {
    const tenure = tenures.get(record.tenure);
    if (tenure !== undefined) tenure.endUs = Math.min(tenure.endUs, record.atUs);
  }
}

/** Each tenure that began while another one, of the same key, had validity left. */
export function overlapsOf(tenures: Iterable<Tenure>): Overlap[] {
  const byKey = new Map<string, Tenure[]>();
  for (const tenure of tenures) {
    if (tenure.endUs <= tenure.fromUs) continue;
    for (const key of tenure.keys) {
      const own = byKey.get(key);
      if (own === undefined) byKey.set(key, [tenure]);
      else own.push(tenure);
    }
  }
  return [...byKey].flatMap(([key, own]) => overlapsIn(key, own));
}

function overlapsIn(key: string, tenures: readonly Tenure[]): Overlap[] {
  const overlaps: Overlap[] = [];
  let running: Tenure[] = [];
  for (const second of [...tenures].sort((a, b) => a.fromUs - b.fromUs)) {
    running = running.filter(({ endUs }) => endUs > second.fromUs);
    for (const first of running) {
      const lengthMs = (Math.min(first.endUs, second.endUs) - second.fromUs) / 1_000;
      overlaps.push({ key, first, second, lengthMs });
    }
    running.push(second);
  }
  return overlaps;
}
