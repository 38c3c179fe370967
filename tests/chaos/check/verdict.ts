// What a run must not have done.

import { type Availability, availabilityOf } from "./availability.js";
import { dataLosses } from "./faults.js";
import { guarded, isGuardedByPermit } from "../records.js";
import { fencingViolations } from "./fences.js";
import { readLog, type Log } from "./log.js";
import { type Loss, lossesOf } from "./losses.js";
import { type Overlap, overlapsOf, type Tenure, tenuresOf } from "./tenures.js";
import { type Updates, updatesOf } from "./updates.js";

export interface Verdict {
  readonly log: Log;
  readonly tenures: ReadonlyMap<string, Tenure>;
  readonly overlaps: readonly Overlap[];
  readonly updates: Updates;
  readonly availability: Availability;
  readonly losses: readonly Loss[];
  /** In words; none where all was well. */
  readonly violations: readonly string[];
}

export function judgeFolder(folder: string): Verdict {
  return judge(readLog(folder));
}

export function judge(log: Log): Verdict {
  const tenures = tenuresOf(log);
  const forgotten = dataLosses(log);
  const overlaps = overlapsOf(tenures.values(), forgotten);
  const updates = updatesOf(log, tenures, forgotten);
  const availability = availabilityOf(log);
  const losses = lossesOf(log, tenures);
  const violations = [
    ...log.problems,
    ...updates.problems,
    ...unfinished(log),
    // Of nodes that forget, Redlock promises nothing: what follows is counted, not judged.
    ...overlaps
      .filter(({ acrossDataLoss }) => !acrossDataLoss)
      .map(
        ({ key, first, second, lengthMs }) =>
          `overlap on ${key}: ${second.id} began at ${second.fromUs} us, while ${first.id} had validity; ` +
          `${lengthMs.toFixed(1)} ms together`,
      ),
    ...updates.lost
      .filter(({ stale, key }) => stale === undefined || hasTokens(log, key))
      .filter(({ acrossDataLoss }) => !acrossDataLoss)
      .map(({ key, lost, by }) => `lost update on ${key}: ${by} was made without ${lost}`),
    ...permitViolations(log, tenures),
    ...updates.changed
      .filter(({ stale, acrossDataLoss }) => !stale && !acrossDataLoss)
      .map(
        ({ key, token, by }) =>
          `changed under a reader on ${key}: ${by} between the reads ${token}`,
      ),
    ...fencingViolations(log, tenures, forgotten),
    ...updates.unchecked.map((token) => `${token} was written with no validity left`),
    ...losses
      .filter(({ lateMs, allowedMs }) => lateMs > allowedMs)
      .map(
        ({ tenure, lateMs }) =>
          `the loss of ${tenure.id} was said ${lateMs.toFixed(1)} ms after its validity's end, ` +
          "though the event loop had turned in between",
      ),
    ...availabilityViolations(availability, tenures.size),
  ];
  return { log, tenures, overlaps, updates, availability, losses, violations };
}

function hasTokens({ facts }: Log, key: string): boolean {
  return facts.fencing && !isGuardedByPermit(key);
}

/** Each permit is held by one at a time, as overlaps tell. So no more hold one than there are, if each is one of those. */
function permitViolations({ facts }: Log, tenures: ReadonlyMap<string, Tenure>): string[] {
  const known = new Set(guarded(facts));
  return [...tenures.values()].flatMap(({ id, keys }) =>
    keys.filter((key) => !known.has(key)).map((key) => `${id} holds ${key}, which there is not`),
  );
}

function availabilityViolations(
  { waits, reactions, limitMs }: Availability,
  acquisitions: number,
): string[] {
  if (waits.length === 0 || acquisitions === 0) return ["nothing was ever acquired"];
  const late = (what: string, list: Availability["waits"]): string[] =>
    list
      .filter(({ waitMs }) => waitMs > limitMs)
      .map(
        ({ client, fromUs, waitMs }) =>
          `client ${client} had no lock for ${waitMs.toFixed(0)} ms ${what} at ${fromUs} us; ` +
          `${limitMs} ms are allowed`,
      );
  return [
    ...late("while a majority was up, from the last one", waits),
    ...late("after a minority's failure", reactions),
  ];
}

/** A life that was not killed and whose last record is not `done` has a call that never ended. */
function unfinished(log: Log): string[] {
  return log.lives.flat().flatMap(({ client, records, diedUs }) => {
    const crashes = records.flatMap((record) =>
      record.type === "crashed" ? [`client ${client} crashed: ${record.why}`] : [],
    );
    if (diedUs !== undefined || records.at(-1)?.type === "done") return crashes;
    return [...crashes, `client ${client} did not end by itself: a call of its has no end`];
  });
}
