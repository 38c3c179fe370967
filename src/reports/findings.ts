import { driftMs } from "../algorithm/validity.js";
import { inShort, inWords, NodeError } from "../errors.js";
import type { Answers, Checkup, NodeProblem, Standard } from "./health.js";

/**
 * The scripts write after reading the clock (TIME) or an expiry (PTTL). Servers before Redis 5 refuse that, since they
 * replicate scripts as text.
 */
const LEAST_VERSION = [5, 0] as const;

/** Clocks are compared with the drift allowance of this ttl before any was used. */
const USUAL_TTL_MS = 10_000;

const SAFE_PERSISTENCE = "append-only file, fsync always";

/** Returns what an operator should know of a node, and do. */
export function problemsOf(
  checkup: Checkup,
  index: number,
  checkups: readonly Checkup[],
  standard: Standard,
): NodeProblem[] {
  const { settings } = standard;
  return [
    ...reachabilityProblems(checkup),
    ...twins(checkup, checkups),
    ...serverProblems(checkup, checkups, standard),
    ...refusalProblems(checkup),
    ...(checkup.answers.reachable ? guardProblems(checkup, settings.restartGuard) : []),
    index === checkups.length - 1 &&
      checkups.length % 2 === 0 &&
      problem(
        `makes the number of nodes even: ${checkups.length} nodes survive no more failures than ${checkups.length - 1}`,
        "Use an odd number of nodes, such as 3 or 5.",
      ),
  ].filter((each) => typeof each === "object");
}

/** @param remedy one sentence or more */
function problem(finding: string, remedy: string): NodeProblem {
  return { finding, remedy, endangersExclusion: false };
}

/** A problem that can let two clients hold one lock. */
function danger(finding: string, remedy: string): NodeProblem {
  return { finding, remedy, endangersExclusion: true };
}

/** What is wrong, or false if nothing is. */
type Problems = (NodeProblem | false | undefined)[];

function reachabilityProblems({ answers, hold, lacksSocketTimeout }: Checkup): Problems {
  return [
    answers.error &&
      problem(
        `cannot be reached: ${inShort(answers.error)}`,
        "Start the server, or check its address, its password and the network.",
      ),
    isSilent(answers.error) &&
      lacksSocketTimeout &&
      problem(
        "has a client that never replaces a silent connection: set the client's option socketTimeout, such as 5000 ms",
        "Set socketTimeout where the client is made.",
      ),
    hold &&
      problem(
        `is held back: it ${hold.message}`,
        "Wait: its votes count again when the locks that it may have forgotten have ended.",
      ),
  ];
}

function serverProblems(
  { answers, redisVersion }: Checkup,
  checkups: readonly Checkup[],
  { settings, timeoutMs, longestTtlMs }: Standard,
): Problems {
  const driftAllowanceMs = driftMs(longestTtlMs || USUAL_TTL_MS, settings.driftFactor);
  const clock = clockFinding(answers, checkups, driftAllowanceMs);
  return [
    answers.role === "replica" &&
      danger(
        "is a replica: it refuses writes, and depends on its master",
        "Name masters that are no replicas of each other: a replica that is promoted may have missed a lock.",
      ),
    clock !== undefined && danger(clock, "Run an NTP client on the server that slews its clock."),
    answers.evictionPolicy !== null &&
      answers.evictionPolicy !== "noeviction" &&
      danger(
        `may evict locks that are held (maxmemory-policy ${answers.evictionPolicy}): set noeviction`,
        "Run CONFIG SET maxmemory-policy noeviction on it, and set the same in its configuration file.",
      ),
    answers.latencyMs !== null &&
      answers.latencyMs > timeoutMs / 10 &&
      problem(
        `is slow: a round trip took ${inWords(answers.latencyMs)}, above a tenth of nodeTimeout (${inWords(timeoutMs)})`,
        "Look for slow commands with SLOWLOG GET, or raise nodeTimeout if the network is far.",
      ),
    isTooOld(redisVersion) &&
      problem(
        `is too old: the scripts need Redis ${LEAST_VERSION.join(".")}, it has ${answers.version ?? ""}`,
        "Upgrade the server.",
      ),
  ];
}

function isSilent(error: Error | undefined): boolean {
  return error instanceof NodeError && error.code === "ERR_REDLOCK_NODE_TIMEOUT";
}

/** Returns a problem for each other entry that is the same server. */
function twins({ answers }: Checkup, checkups: readonly Checkup[]): NodeProblem[] {
  if (answers.runId === null) return [];
  return checkups.flatMap(({ answers: other }) =>
    other !== answers && other.runId === answers.runId
      ? [
          danger(
            `is the same server as ${other.node} (run id ${answers.runId}): it votes twice`,
            "Name each server once.",
          ),
        ]
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

function refusalProblems({ refusals }: Checkup): NodeProblem[] {
  const first = refusals.filter(
    ({ what }, index) => refusals.findIndex((other) => other.what === what) === index,
  );
  return first.map(({ what, error }) =>
    error instanceof NodeError
      ? problem(
          `did not confirm ${what} in time (${inShort(error)}): whether it can notify waiters is unknown`,
          "Try again. If it stays, look at the server's load.",
        )
      : problem(
          `refuses ${what} (${inShort(error)}): ${CONSEQUENCES[what] ?? ""}`,
          "Give the client's user this right: docs/operations.md has the ACL.",
        ),
  );
}

function guardProblems(
  { answers, refusals, isCluster }: Checkup,
  restartGuard: number | false | undefined,
): Problems {
  const isAnswers = !refusals.some(({ what }) => what === "INFO");
  return [
    isCluster &&
      problem(
        "is a Cluster client: this report is of one of its servers, and the restart guard does not cover them",
        "Use independent servers, or make sure that those of the Cluster persist every write.",
      ),
    !isCluster &&
      isAnswers &&
      answers.runId === null &&
      danger(
        "does not tell its run id, as if behind a proxy: the restart guard cannot notice its restarts",
        "Connect to the server itself, or let it persist every write.",
      ),
    restartGuard === false &&
      answers.persistence !== SAFE_PERSISTENCE &&
      danger(
        `may forget locks when it restarts (persistence: ${answers.persistence ?? "unknown"}), and restartGuard is false`,
        "Set appendonly yes and appendfsync always on it, or leave restartGuard on.",
      ),
  ];
}
