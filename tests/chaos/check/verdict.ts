// What a run must not have done.

import { type Availability, availabilityOf } from "./availability.js";
import { readLog, type Log } from "./log.js";
import { type Overlap, overlapsOf, type Tenure, tenuresOf } from "./tenures.js";
import { type Updates, updatesOf } from "./updates.js";

export interface Verdict {
  readonly log: Log;
  readonly tenures: ReadonlyMap<string, Tenure>;
  readonly overlaps: readonly Overlap[];
  readonly updates: Updates;
  readonly availability: Availability;
  /** In words; none where all was well. */
  readonly violations: readonly string[];
}

export function judgeFolder(folder: string): Verdict {
  return judge(readLog(folder));
}

export function judge(log: Log): Verdict {
  const tenures = tenuresOf(log);
  const overlaps = overlapsOf(tenures.values());
  const updates = updatesOf(log, tenures);
  const availability = availabilityOf(log);
  const violations = [
    ...log.problems,
    ...updates.problems,
    ...unfinished(log),
    ...overlaps.map(
      ({ key, first, second, lengthMs }) =>
        `overlap on ${key}: ${second.id} began at ${second.fromUs} us, while ${first.id} had validity; ` +
        `${lengthMs.toFixed(1)} ms together`,
    ),
    ...updates.lost
      .filter(({ stale }) => stale === undefined)
      .map(({ key, lost, by }) => `lost update on ${key}: ${by} was made without ${lost}`),
    ...availabilityViolations(availability, tenures.size),
  ];
  return { log, tenures, overlaps, updates, availability, violations };
}

function availabilityViolations(
  { waits, reactions, recoveries, limitMs }: Availability,
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
    ...late("after a majority was back", recoveries),
  ];
}

/** A client whose last record is not `done` has a call that never ended, or died. */
function unfinished(log: Log): string[] {
  return log.clients.flatMap((records, client) => {
    const crashes = records.flatMap((record) =>
      record.type === "crashed" ? [`client ${client} crashed: ${record.why}`] : [],
    );
    if (records.at(-1)?.type === "done") return crashes;
    return [...crashes, `client ${client} did not end by itself: a call of its has no end`];
  });
}
