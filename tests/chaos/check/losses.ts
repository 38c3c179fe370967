// Whether `using` said each loss in time: its signal aborts no later than the validity ends, and is late
// only by what the event loop was blocked. That is measured, not assumed: the client has a timer of its
// own that is due at that end. An abort after the end is in time where it came before that timer ran.

import { absences, faultsOf } from "./faults.js";
import type { Log } from "./log.js";
import type { Tenure } from "./tenures.js";

/** The library says a loss up to this much before the end; frozen then, a client hears it late. */
const FORESIGHT_MS = 10;

export interface Loss {
  readonly tenure: Tenure;
  /** From the end of the validity to the abort; negative where the abort came first. */
  readonly lateMs: number;
  /** What the client's own timer was late, where the abort was; else 0. */
  readonly allowedMs: number;
  /** Whether the nemesis had frozen the client meanwhile. */
  readonly frozen: boolean;
}

/** What `using` said to clients that lived to hear it. */
export function lossesOf(log: Log, tenures: ReadonlyMap<string, Tenure>): Loss[] {
  const toldUs = new Map<string, number>();
  const watchedUs = new Map<string, number>();
  for (const record of log.clients.flat()) {
    if (record.type === "lost" && !toldUs.has(record.tenure)) {
      toldUs.set(record.tenure, record.atUs);
    }
    if (record.type === "watched") watchedUs.set(record.tenure, record.atUs);
  }
  const faults = faultsOf(log);
  return [...tenures.values()].flatMap((tenure) => {
    const { id, call, validUntilUs, life } = tenure;
    const atUs = toldUs.get(id);
    const ranUs = watchedUs.get(id);
    if (call !== "using" || atUs === undefined) return [];
    // It was killed between the two.
    if (ranUs === undefined && life.diedUs !== undefined) return [];
    const lateMs = (atUs - validUntilUs) / 1_000;
    const allowedMs = lateMs > 0 && ranUs !== undefined ? (ranUs - validUntilUs) / 1_000 : 0;
    const frozen = absences(faults, life.client).some(
      ({ fromUs, toUs }) => fromUs < atUs && toUs > validUntilUs - FORESIGHT_MS * 1_000,
    );
    return [{ tenure, lateMs, allowedMs, frozen }];
  });
}
