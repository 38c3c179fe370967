import { driftMs } from "../algorithm/validity.js";
import { inShort, inWords, NodeError } from "../errors.js";
import type { Checkup, Standard, Answers } from "./health.js";

/**
 * The scripts write after reading the clock (TIME) or an expiry (PTTL). Servers before Redis 5 refuse that, since they
 * replicate scripts as text.
 */
const LEAST_VERSION = [5, 0] as const;

/** Clocks are compared with the drift allowance of this ttl before any was used. */
const USUAL_TTL_MS = 10_000;

const SAFE_PERSISTENCE = "append-only file, fsync always";

/** Returns what an operator should know of a node, in words. */
export function findingsOf(
  checkup: Checkup,
  index: number,
  checkups: readonly Checkup[],
  { settings, timeoutMs, longestTtlMs }: Standard,
): string[] {
  const { answers, hold, lacksSocketTimeout } = checkup;
  const driftAllowanceMs = driftMs(longestTtlMs || USUAL_TTL_MS, settings.driftFactor);
  return [
    answers.error && `cannot be reached: ${inShort(answers.error)}`,
    isSilent(answers.error) &&
      lacksSocketTimeout &&
      "has a client that never replaces a silent connection: set the client's option socketTimeout, such as 5000 ms",
    hold && `is held back: it ${hold.message}`,
    ...twins(checkup, checkups),
    answers.role === "replica" && "is a replica: it refuses writes, and depends on its master",
    clockFinding(answers, checkups, driftAllowanceMs),
    answers.evictionPolicy !== null &&
      answers.evictionPolicy !== "noeviction" &&
      `may evict locks that are held (maxmemory-policy ${answers.evictionPolicy}): set noeviction`,
    answers.latencyMs !== null &&
      answers.latencyMs > timeoutMs / 10 &&
      `is slow: a round trip took ${inWords(answers.latencyMs)}, above a tenth of nodeTimeout (${inWords(timeoutMs)})`,
    isTooOld(checkup.redisVersion) &&
      `is too old: the scripts need Redis ${LEAST_VERSION.join(".")}, it has ${answers.version ?? ""}`,
    ...refusalFindings(checkup),
    ...(answers.reachable ? guardFindings(checkup, settings.restartGuard) : []),
    index === checkups.length - 1 &&
      checkups.length % 2 === 0 &&
      `makes the number of nodes even: ${checkups.length} nodes survive no more failures than ${checkups.length - 1}`,
  ].filter((finding) => typeof finding === "string");
}

function isSilent(error: Error | undefined): boolean {
  return error instanceof NodeError && error.code === "ERR_REDLOCK_NODE_TIMEOUT";
}

/** Returns a finding for each other entry that is the same server. */
function twins({ answers }: Checkup, checkups: readonly Checkup[]): string[] {
  if (answers.runId === null) return [];
  return checkups.flatMap(({ answers: other }) =>
    other !== answers && other.runId === answers.runId
      ? [`is the same server as ${other.node} (run id ${answers.runId}): it votes twice`]
      : [],
  );
}

function clockFinding(
  { clockOffsetMs, latencyMs }: Answers,
  checkups: readonly Checkup[],
  allowanceMs: number,
): string | undefined {
  if (clockOffsetMs === null || latencyMs === null) return undefined;
  const offsetsMs = checkups.flatMap(({ answers }) => answers.clockOffsetMs ?? []);
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

const NOT_NOTIFIED = "it cannot notify waiters in their order";

const CONSEQUENCES: Readonly<Partial<Record<string, string>>> = {
  TIME: "its clock could not be read, it cannot notify waiters in their order, and no fenced lock can be acquired there",
  INFO: "its identity and settings could not be read; the restart guard counts its votes at first, and holds it back after each reconnection",
  "CONFIG GET": "its persistence could not be read in full",
  EVAL: "only a lock on one resource can be acquired there, and none released",
  EVALSHA: "only a lock on one resource can be acquired there, and none released",
  PUBLISH: "it cannot notify waiters",
  SUBSCRIBE: "it cannot notify waiters",
  "SCRIPT LOAD": "if it is the last node to reply, batched operations may not count there",
  SET: "no lock can be acquired there",
  GET: "no lock can be extended or released there",
  DEL: "no lock can be released there",
  EXISTS:
    "no lock on several resources can be acquired there and, unless `queue` is false, no lock on one released",
  PTTL: "no lock can be extended there",
  PEXPIRE: "no lock can be extended there",
  TYPE: "inspect() cannot read it",
  ZADD: NOT_NOTIFIED,
  ZRANGE: NOT_NOTIFIED,
  ZRANK: NOT_NOTIFIED,
  ZREM: NOT_NOTIFIED,
  HSET: NOT_NOTIFIED,
  HGET: NOT_NOTIFIED,
  HDEL: NOT_NOTIFIED,
};

function refusalFindings({ refusals }: Checkup): string[] {
  const first = refusals.filter(
    ({ what }, index) => refusals.findIndex((other) => other.what === what) === index,
  );
  return first.map(({ what, error }) =>
    error instanceof NodeError
      ? `did not confirm ${what} in time (${inShort(error)}): whether it can notify waiters is unknown`
      : `refuses ${what} (${inShort(error)}): ${CONSEQUENCES[what] ?? ""}`,
  );
}

function guardFindings(
  { answers, refusals, isCluster }: Checkup,
  restartGuard: number | false | undefined,
): (string | false)[] {
  const isAnswers = !refusals.some(({ what }) => what === "INFO");
  return [
    isCluster &&
      "is a Cluster client: this report is of one of its servers, and the restart guard does not cover them",
    !isCluster &&
      isAnswers &&
      answers.runId === null &&
      "does not tell its run id, as if behind a proxy: the restart guard cannot notice its restarts",
    restartGuard === false &&
      answers.persistence !== SAFE_PERSISTENCE &&
      `may forget locks when it restarts (persistence: ${answers.persistence ?? "unknown"}), and restartGuard is false`,
  ];
}
