import pTimeout from "p-timeout";
import { companionKey } from "../operations/companion-key.js";
import { type Environment, pTimeoutTimers } from "../runtime/environment.js";
import { asError, inShort, inWords, NodeError, noAnswerIn, withoutCommand } from "../errors.js";
import { isReply, type Subscription } from "../clients/connection.js";
import { fieldsOf } from "../nodes/restart-guard.js";
import type { Node } from "../nodes/node.js";
import type { Argument } from "../operations/operation.js";
import { probeScript } from "../operations/probe.js";
import type { ResolvedSettings } from "../settings.js";
import { driftMs } from "../algorithm/validity.js";
import { holdOf, askOutsideVote } from "../nodes/ask-outside-vote.js";
import { CHANNEL_PREFIX } from "../waiting/queue-keys.js";

/** How one node is. What it did not say is null. */
export interface NodeHealth {
  /** host:port */
  readonly node: string;
  readonly reachable: boolean;
  /** Why the node could not be asked. */
  readonly error?: Error;
  /** Ms of one round trip. */
  readonly latencyMs: number | null;
  /** Ms by which the node's clock is ahead of this host's, give or take half the latency. */
  readonly clockOffsetMs: number | null;
  /** Of Redis; of Valkey with its name. */
  readonly version: string | null;
  readonly role: "master" | "replica" | null;
  /** Another one after each start of the server. */
  readonly runId: string | null;
  readonly uptimeMs: number | null;
  /** In words: `append-only file, fsync always`; `none`. */
  readonly persistence: string | null;
  readonly evictionPolicy: string | null;
  /** Epoch ms until which the restart guard lets no vote for an acquisition count; absent where they count. */
  readonly heldBackUntil?: number;
  /** What an operator should know, each in a few words that follow the node's name. Empty where all is well. */
  readonly findings: readonly string[];
}

/** What the nodes' health is held against. */
export interface Standard {
  readonly settings: ResolvedSettings;
  /** What each node has to answer in. */
  readonly timeoutMs: number;
  /** That was used so far; 0 before the first. */
  readonly longestTtlMs: number;
}

/**
 * The scripts read the clock (TIME), or a key's rest (PTTL), and then write, which servers refuse that
 * replicate scripts as their text: all before Redis 5.
 */
const LEAST_VERSION = [5, 0] as const;

/** Whose drift allowance clocks are held against before a ttl was used. */
const USUAL_TTL_MS = 10_000;

const SAFE_PERSISTENCE = "append-only file, fsync always";

/** What the scripts call, with arguments, after a key, that change nothing where there is no such key. */
const CALLED_FOR_LOCKS = [
  ["SET", "", "XX"],
  ["GET"],
  ["DEL"],
  ["EXISTS"],
  ["PTTL"],
  ["PEXPIRE", "1"],
  ["TYPE"],
] as const;
const CALLED_FOR_LINES = [
  ["ZADD", "XX", "0", ""],
  ["ZRANGE", "0", "0"],
  ["ZRANK", ""],
  ["ZREM", ""],
  // A field without its value: the right to call it is looked at first.
  ["HSET", "", "", ""],
  ["HGET", ""],
  ["HDEL", ""],
] as const;

/** Of Redis up to 7.0; of Redis from 7.2 on, and Valkey; of a command that was renamed. */
const REFUSED_TO_SCRIPTS = /can't run this command|no permissions to run|unknown/i;

type QueueReply = Omit<NodeHealth, "findings">;

interface Refusal {
  readonly what: string;
  readonly error: Error;
}

/** What one node said, and what it refused to say. */
interface Checkup {
  readonly told: QueueReply;
  readonly refusals: readonly Refusal[];
  readonly isCluster: boolean;
  readonly lacksSocketTimeout: boolean;
  readonly hold: Error | undefined;
  /** Also of Valkey: the Redis that it stands in for. */
  readonly redisVersion: string | undefined;
}

const SILENT = {
  latencyMs: null,
  clockOffsetMs: null,
  version: null,
  role: null,
  runId: null,
  uptimeMs: null,
  persistence: null,
  evictionPolicy: null,
} as const;

/** Asks every node at once. */
export async function nodesHealth(
  nodes: readonly Node[],
  standard: Standard,
  environment: Environment,
): Promise<NodeHealth[]> {
  const checkups = await Promise.all(nodes.map((node) => checkUp(node, standard, environment)));
  return checkups.map((checkup, index) => ({
    ...checkup.told,
    findings: findingsOf(checkup, index, checkups, standard),
  }));
}

async function checkUp(
  node: Node,
  { settings, timeoutMs }: Standard,
  environment: Environment,
): Promise<Checkup> {
  const inquire = (): Promise<Checkup> => ask(node, settings, timeoutMs, environment);
  try {
    return await askOutsideVote(node, inquire, timeoutMs, environment);
  } catch (error) {
    return {
      told: {
        node: node.name,
        reachable: false,
        error: asError(error),
        ...SILENT,
        ...holdOf(node),
      },
      refusals: [],
      isCluster: node.isCluster,
      lacksSocketTimeout: node.lacksSocketTimeout,
      hold: node.heldBack(),
      redisVersion: undefined,
    };
  }
}

/** All at once. What a node refuses, it is not asked for in another way. */
async function ask(
  node: Node,
  { queue, keyPrefix }: ResolvedSettings,
  timeoutMs: number,
  environment: Environment,
): Promise<Checkup> {
  const refusals: Refusal[] = [];
  const channel = `${CHANNEL_PREFIX}health:${environment.randomValue()}`;
  const tell = async (what: string, command: string, ...args: Argument[]): Promise<unknown> => {
    try {
      return await node.query(command, args);
    } catch (error) {
      if (!isReply(error)) throw error;
      // A Cluster client may send the two to different servers: it was not refused.
      if (!error.message.startsWith("NOSCRIPT"))
        refusals.push({ what, error: withoutCommand(error) });
      return undefined;
    }
  };
  const probe = tryouts(keyPrefix, queue);
  const asked = environment.now();
  const time = tell("TIME", "time").then((reply) => {
    const latencyMs = environment.monotonicMs() - asked.monotonicMs;
    return { reply, latencyMs };
  });
  const [{ reply, latencyMs }, info, save, fsync, errors, errorsOfCached] = await Promise.all([
    time,
    tell("INFO", "info"),
    tell("CONFIG GET", "config", "GET", "save"),
    tell("CONFIG GET", "config", "GET", "appendfsync"),
    tell("EVAL", "eval", probeScript.text, 0, JSON.stringify(probe)),
    tell("EVALSHA", "evalsha", probeScript.sha1, 0, JSON.stringify(probe)),
    tell("SCRIPT LOAD", "script", "LOAD", probeScript.text),
    ...(queue
      ? [
          tell("PUBLISH", "publish", channel, ""),
          listen(node, channel, timeoutMs / 2, environment).catch((error: unknown) => {
            refusals.push({ what: "SUBSCRIBE", error: withoutCommand(asError(error)) });
          }),
        ]
      : []),
  ]);
  for (const [index, [what]] of probe.entries()) {
    const error = listIn(errors ?? errorsOfCached)[index];
    if (typeof error === "string" && REFUSED_TO_SCRIPTS.test(error)) {
      refusals.push({ what, error: new Error(error) });
    }
  }
  const fields = fieldsOf(info);
  return {
    told: {
      node: node.name,
      reachable: true,
      latencyMs,
      clockOffsetMs: offsetMs(reply, asked.wallMs + latencyMs / 2),
      version: versionOf(fields),
      role:
        fields["role"] === undefined ? null : fields["role"] === "master" ? "master" : "replica",
      runId: fields["run_id"] ?? null,
      uptimeMs: numberOf(fields["uptime_in_seconds"], 1000),
      persistence: persistenceOf(fields, configured(save), configured(fsync)),
      evictionPolicy: fields["maxmemory_policy"] ?? null,
      ...holdOf(node),
    },
    refusals,
    isCluster: node.isCluster,
    lacksSocketTimeout: node.lacksSocketTimeout,
    hold: node.heldBack(),
    redisVersion: fields["redis_version"],
  };
}

/**
 * The scripts' commands on a key that no lock can have. The server's ACL LOG has an entry for it where the user may
 * not touch that key.
 */
function tryouts(keyPrefix: string, queue: boolean): (readonly [string, ...string[]])[] {
  const key = companionKey(`${keyPrefix}health`, "health") ?? "{health}:redlock:health";
  const called = queue ? [...CALLED_FOR_LOCKS, ...CALLED_FOR_LINES] : CALLED_FOR_LOCKS;
  return called.map(([command, ...args]) => [command, key, ...args]);
}

function listIn(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** Subscribes as one who waits does, on a connection of its own, and ends it at once. A Cluster client has none. */
async function listen(
  node: Node,
  channel: string,
  timeoutMs: number,
  environment: Environment,
): Promise<void> {
  if (node.isCluster) return;
  let subscription: Subscription | undefined;
  const opened = new Promise<void>((resolve, reject) => {
    subscription = node.subscribe(channel, {
      onOpen: resolve,
      onLoss: (error) => {
        reject(error ?? new Error("its connection was closed"));
      },
      onMessage: () => undefined,
    });
    if (subscription === undefined) reject(new Error("its client cannot"));
  });
  const inTime = {
    milliseconds: timeoutMs,
    message: noAnswerIn(timeoutMs, node.name),
    customTimers: pTimeoutTimers(environment),
  };
  await pTimeout(opened, inTime).finally(() => subscription?.close());
}

/** By how much the server's clock is ahead, where it said the time. */
function offsetMs(time: unknown, wallMs: number): number | null {
  if (!Array.isArray(time)) return null;
  const [seconds, microseconds] = time as unknown[];
  return Number(seconds) * 1000 + Number(microseconds) / 1000 - wallMs;
}

function numberOf(text: string | undefined, unit: number): number | null {
  return text === undefined ? null : Number(text) * unit;
}

function versionOf(info: Readonly<Partial<Record<string, string>>>): string | null {
  const valkey = info["valkey_version"];
  return valkey === undefined ? (info["redis_version"] ?? null) : `Valkey ${valkey}`;
}

/** The value of the one parameter that was asked for: a list of name and value, or an object. */
function configured(reply: unknown): string | undefined {
  if (typeof reply !== "object" || reply === null) return undefined;
  const value: unknown = Array.isArray(reply) ? reply[1] : Object.values(reply)[0];
  return typeof value === "string" ? value : undefined;
}

function persistenceOf(
  { aof_enabled: appends }: Readonly<Partial<Record<string, string>>>,
  save: string | undefined,
  fsync: string | undefined,
): string | null {
  if (appends === "1")
    return fsync === undefined ? "append-only file" : `append-only file, fsync ${fsync}`;
  if (save !== undefined && save !== "") return "snapshots";
  return appends === undefined || save === undefined ? null : "none";
}

function findingsOf(
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
  { clockOffsetMs, latencyMs }: QueueReply,
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
