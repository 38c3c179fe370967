import { driftMs } from "../algorithm/validity.js";
import { inShort, inWords, NodeError } from "../errors.js";
import type { Checkup, Standard, Told } from "./health.js";

/**
 * The scripts read the clock (TIME), or a key's rest (PTTL), and then write, which servers refuse that
 * replicate scripts as their text: all before Redis 5.
 */
const LEAST_VERSION = [5, 0] as const;

/** Whose drift allowance clocks are held against before a ttl was used. */
const USUAL_TTL_MS = 10_000;

const SAFE_PERSISTENCE = "append-only file, fsync always";

/** What an operator should know of a node, in words. */
export function findingsOf(
  checkup: Checkup,
  index: number,
  checkups: readonly Checkup[],
  { settings, timeoutMs, longestTtlMs }: Standard,
): string[] {
  const { told, hold, lacksSocketTimeout } = checkup;
  const driftAllowanceMs = driftMs(longestTtlMs || USUAL_TTL_MS, settings.driftFactor);
  return [
    told.error && `cannot be reached: ${inShort(told.error)}`,
    isSilent(told.error) &&
      lacksSocketTimeout &&
      "has a client that keeps a connection on which nothing is heard: set the client's option socketTimeout, such as 5000 ms",
    hold && `is held back: it ${hold.message}`,
    ...twins(checkup, checkups),
    told.role === "replica" &&
      "is a replica: it refuses writes, and is not independent of its master",
    clockFinding(told, checkups, driftAllowanceMs),
    told.evictionPolicy !== null &&
      told.evictionPolicy !== "noeviction" &&
      `may evict locks that are held (maxmemory-policy ${told.evictionPolicy}): set noeviction`,
    told.latencyMs !== null &&
      told.latencyMs > timeoutMs / 10 &&
      `is slow: a round trip took ${inWords(told.latencyMs)}, above a tenth of nodeTimeout (${inWords(timeoutMs)})`,
    isTooOld(checkup.redisVersion) &&
      `is too old: the scripts need Redis ${LEAST_VERSION.join(".")}, it has ${told.version ?? ""}`,
    ...refusalFindings(checkup),
    ...(told.reachable ? guardFindings(checkup, settings.restartGuard) : []),
    index === checkups.length - 1 &&
      checkups.length % 2 === 0 &&
      `makes the number of nodes even: ${checkups.length} bear no more failures than ${checkups.length - 1}`,
  ].filter((finding) => typeof finding === "string");
}

function isSilent(error: Error | undefined): boolean {
  return error instanceof NodeError && error.code === "ERR_REDLOCK_NODE_TIMEOUT";
}

/** Other entries that are the same server. */
function twins({ told }: Checkup, checkups: readonly Checkup[]): string[] {
  if (told.runId === null) return [];
  return checkups.flatMap(({ told: other }) =>
    other !== told && other.runId === told.runId
      ? [`is the same server as ${other.node} (run id ${told.runId}): it votes twice`]
      : [],
  );
}

function clockFinding(
  { clockOffsetMs, latencyMs }: Told,
  checkups: readonly Checkup[],
  allowanceMs: number,
): string | undefined {
  if (clockOffsetMs === null || latencyMs === null) return undefined;
  const offsetsMs = checkups.flatMap(({ told }) => told.clockOffsetMs ?? []);
  const aheadMs = clockOffsetMs - median(offsetsMs);
  if (Math.abs(aheadMs) - latencyMs / 2 <= allowanceMs) return undefined;
  const [where, effect] =
    aheadMs > 0
      ? ["ahead of", "If it was set forward, the locks that it held then expired early"]
      : [
          "behind",
          "If it was set back, the locks that it held then, also of holders that have died, last that much longer",
        ];
  return (
    `has a clock ${inWords(Math.abs(aheadMs))} ${where} the nodes' median, ` +
    `above the drift allowance of ${inWords(allowanceMs)}. ${effect}. Let NTP slew the servers' clocks`
  );
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}

function isTooOld(version: string | undefined): boolean {
  if (version === undefined) return false;
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [leastMajor, leastMinor] = LEAST_VERSION;
  return major < leastMajor || (major === leastMajor && minor < leastMinor);
}

const NO_TURNS = "who waits for a lock is not called in turn by it";

const CONSEQUENCES: Readonly<Partial<Record<string, string>>> = {
  TIME: "its clock could not be read, nobody who waits is called in turn by it, and no fenced lock can be acquired there",
  INFO: "who it is and how it is set up could not be asked, and the restart guard counts it at first contact and holds it back after each reconnection",
  "CONFIG GET": "how it persists could not be asked in full",
  EVAL: "nothing but a lock on one resource can be taken there, and none released",
  EVALSHA: "nothing but a lock on one resource can be taken there, and none released",
  PUBLISH: "no waiter can be woken by it",
  SUBSCRIBE: "no waiter can be woken by it",
  "SCRIPT LOAD":
    "operations that it is asked for together may not count, where it is the last to answer",
  SET: "no lock can be acquired there",
  GET: "no lock can be extended or released there",
  DEL: "no lock can be released there",
  EXISTS:
    "no lock on several resources can be acquired there and, unless `queue` is false, no lock on one released",
  PTTL: "no lock can be extended there",
  PEXPIRE: "no lock can be extended there",
  TYPE: "inspect() cannot read it",
  ZADD: NO_TURNS,
  ZRANGE: NO_TURNS,
  ZRANK: NO_TURNS,
  ZREM: NO_TURNS,
  HSET: NO_TURNS,
  HGET: NO_TURNS,
  HDEL: NO_TURNS,
};

function refusalFindings({ refusals }: Checkup): string[] {
  const first = refusals.filter(
    ({ what }, index) => refusals.findIndex((other) => other.what === what) === index,
  );
  return first.map(({ what, error }) =>
    error instanceof NodeError
      ? `did not confirm ${what} in time (${inShort(error)}): whether it can wake waiters could not be asked`
      : `refuses ${what} (${inShort(error)}): ${CONSEQUENCES[what] ?? ""}`,
  );
}

function guardFindings(
  { told, refusals, isCluster }: Checkup,
  restartGuard: number | false | undefined,
): (string | false)[] {
  const isTold = !refusals.some(({ what }) => what === "INFO");
  return [
    isCluster &&
      "is a Cluster client: this is what one of its servers said, and the restart guard does not cover them",
    !isCluster &&
      isTold &&
      told.runId === null &&
      "tells no run id, as a proxy does not: the restart guard cannot see a restart behind it",
    restartGuard === false &&
      told.persistence !== SAFE_PERSISTENCE &&
      `may forget locks when it restarts (persistence: ${told.persistence ?? "could not be asked"}), and restartGuard is false`,
  ];
}
