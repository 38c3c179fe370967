import pTimeout from "p-timeout";
import { companionKey } from "../operations/companion-key.js";
import { type Environment, pTimeoutTimers } from "../runtime/environment.js";
import { asError, noAnswerIn, withoutCommand } from "../errors.js";
import { isReply, type Subscription } from "../clients/connection.js";
import { fieldsOf } from "../nodes/restart-guard.js";
import type { Node } from "../nodes/node.js";
import type { Argument } from "../operations/operation.js";
import { probeScript } from "../operations/probe.js";
import type { ResolvedSettings } from "../settings.js";
import { problemsOf } from "./findings.js";
import { holdOf, askOutsideVote } from "../nodes/ask-outside-vote.js";
import { CHANNEL_PREFIX } from "../waiting/queue-keys.js";

/** What is wrong with a node. */
export interface NodeProblem {
  /** What an operator should know, to be read after the node's name. */
  readonly finding: string;
  /** What to do about it. */
  readonly remedy: string;
  /** Whether it can let two clients hold one lock. */
  readonly endangersExclusion: boolean;
}

/** The health of one node. What the node did not say is null. */
export interface NodeHealth {
  /** host:port */
  readonly node: string;
  /** Whether the node replied in time. */
  readonly reachable: boolean;
  /** Why the node could not be asked. */
  readonly error?: Error;
  /** Ms of one round trip. */
  readonly latencyMs: number | null;
  /** Ms by which the node's clock is ahead of this host's, give or take half the latency. */
  readonly clockOffsetMs: number | null;
  /** The version of Redis; of Valkey with its name. */
  readonly version: string | null;
  /** Whether the server is a master or a replica. A replica rejects writes, so it cannot vote for a lock. */
  readonly role: "master" | "replica" | null;
  /** Identifies the server process: it changes with each start. */
  readonly runId: string | null;
  /** Ms since the server started, to the second. */
  readonly uptimeMs: number | null;
  /** In words, such as `append-only file, fsync always` or `none`. */
  readonly persistence: string | null;
  /** The setting `maxmemory-policy` of the server; `noeviction` is the safe one. */
  readonly evictionPolicy: string | null;
  /** Epoch ms until which the node's votes for acquisitions do not count (restart guard); absent if they do. */
  readonly heldBackUntil?: number;
  /** What an operator should know, each to be read after the node's name. Empty if all is well. */
  readonly findings: readonly string[];
  /** The findings again, each with what to do, and whether it endangers the exclusion. */
  readonly problems: readonly NodeProblem[];
}

/** What the nodes' health is compared with. */
export interface Standard {
  readonly settings: ResolvedSettings;
  /** The timeout of each node, in ms. */
  readonly timeoutMs: number;
  /** The longest ttl used so far, in ms; 0 before the first. */
  readonly longestTtlMs: number;
}

/** The commands that the scripts call. With these arguments, they change nothing if the key does not exist. */
const CALLED_FOR_LOCKS = [
  ["SET", "", "XX"],
  ["GET"],
  ["DEL"],
  ["EXISTS"],
  ["PTTL"],
  ["PEXPIRE", "1"],
  ["TYPE"],
] as const;
const CALLED_FOR_QUEUES = [
  ["ZADD", "XX", "0", ""],
  ["ZRANGE", "0", "0"],
  ["ZRANK", ""],
  ["ZREM", ""],
  // An invalid call, without the field's value: the server checks the right to call it first.
  ["HSET", "", "", ""],
  ["HGET", ""],
  ["HDEL", ""],
] as const;

/** The errors of Redis up to 7.0; of Redis 7.2 and later, and Valkey; and for a command that was renamed. */
const REFUSED_TO_SCRIPTS = /can't run this command|no permissions to run|unknown/i;

export type Answers = Omit<NodeHealth, "findings" | "problems">;

export interface Refusal {
  readonly what: string;
  readonly error: Error;
}

/** What one node replied, and what it refused. */
export interface Checkup {
  readonly answers: Answers;
  readonly refusals: readonly Refusal[];
  readonly isCluster: boolean;
  readonly lacksSocketTimeout: boolean;
  readonly hold: Error | undefined;
  /** The Redis version; of Valkey, the one that it is compatible with. */
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
  return checkups.map((checkup, index) => {
    const problems = problemsOf(checkup, index, checkups, standard);
    return { ...checkup.answers, findings: problems.map(({ finding }) => finding), problems };
  });
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
      answers: {
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

/** Asks one node everything at once. */
async function ask(
  node: Node,
  { queue, keyPrefix }: ResolvedSettings,
  timeoutMs: number,
  environment: Environment,
): Promise<Checkup> {
  const queries = new Queries(node);
  const channel = `${CHANNEL_PREFIX}health:${environment.randomValue()}`;
  const probe = tryouts(keyPrefix, queue);
  const asked = environment.now();
  const time = queries.ask("TIME", "time").then((reply) => {
    const latencyMs = environment.monotonicMs() - asked.monotonicMs;
    return { latencyMs, clockOffsetMs: offsetMs(reply, asked.wallMs + latencyMs / 2) };
  });
  const [clock, info, save, fsync, errors, errorsOfCached] = await Promise.all([
    time,
    queries.ask("INFO", "info"),
    queries.ask("CONFIG GET", "config", "GET", "save"),
    queries.ask("CONFIG GET", "config", "GET", "appendfsync"),
    queries.ask("EVAL", "eval", probeScript.text, 0, JSON.stringify(probe)),
    queries.ask("EVALSHA", "evalsha", probeScript.sha1, 0, JSON.stringify(probe)),
    queries.ask("SCRIPT LOAD", "script", "LOAD", probeScript.text),
    ...(queue
      ? [
          queries.ask("PUBLISH", "publish", channel, ""),
          listen(node, channel, timeoutMs / 2, environment).catch((error: unknown) => {
            queries.refused("SUBSCRIBE", withoutCommand(asError(error)));
          }),
        ]
      : []),
  ]);
  for (const [index, [what]] of probe.entries()) {
    const error = listIn(errors ?? errorsOfCached)[index];
    if (typeof error === "string" && REFUSED_TO_SCRIPTS.test(error)) {
      queries.refused(what, new Error(error));
    }
  }
  const fields = fieldsOf(info);
  return {
    answers: {
      node: node.name,
      reachable: true,
      ...clock,
      ...serverOf(fields),
      persistence: persistenceOf(fields, configured(save), configured(fsync)),
      ...holdOf(node),
    },
    refusals: queries.refusals,
    isCluster: node.isCluster,
    lacksSocketTimeout: node.lacksSocketTimeout,
    hold: node.heldBack(),
    redisVersion: fields["redis_version"],
  };
}

/** Sends single commands to a node, and keeps what the node refuses. */
class Queries {
  readonly refusals: Refusal[] = [];

  constructor(readonly node: Node) {}

  /** Resolves with the reply; with undefined if the node refused the command. Rejects if the connection failed. */
  async ask(what: string, command: string, ...args: Argument[]): Promise<unknown> {
    try {
      return await this.node.query(command, args);
    } catch (error) {
      if (!isReply(error)) throw error;
      // A Cluster client may send EVAL and EVALSHA to different servers, so NOSCRIPT is not a refusal.
      if (!error.message.startsWith("NOSCRIPT")) this.refused(what, withoutCommand(error));
      return undefined;
    }
  }

  refused(what: string, error: Error): void {
    this.refusals.push({ what, error });
  }
}

/** Reads what INFO says of the server. */
function serverOf(
  fields: Readonly<Partial<Record<string, string>>>,
): Pick<Answers, "version" | "role" | "runId" | "uptimeMs" | "evictionPolicy"> {
  const { role, run_id: runId = null, maxmemory_policy: evictionPolicy = null } = fields;
  return {
    version: versionOf(fields),
    role: role === undefined ? null : role === "master" ? "master" : "replica",
    runId,
    uptimeMs: numberOf(fields["uptime_in_seconds"], 1000),
    evictionPolicy,
  };
}

/**
 * Returns the scripts' commands on a key that no lock can have. If the user may not use that key, the server adds an entry
 * to its ACL LOG.
 */
function tryouts(keyPrefix: string, queue: boolean): (readonly [string, ...string[]])[] {
  const key = companionKey(`${keyPrefix}health`, "health") ?? "{health}:redlock:health";
  const called = queue ? [...CALLED_FOR_LOCKS, ...CALLED_FOR_QUEUES] : CALLED_FOR_LOCKS;
  return called.map(([command, ...args]) => [command, key, ...args]);
}

function listIn(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** Subscribes as a waiter does, on a connection of its own, and closes it at once. Not for a Cluster client. */
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

/** Returns by how many ms the server's clock is ahead; null if it did not tell the time. */
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

/** Reads the value of a CONFIG GET of one parameter, which is a list of name and value, or an object. */
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
