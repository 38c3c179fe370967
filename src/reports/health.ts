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
import { findingsOf } from "./findings.js";
import { holdOf, askOutsideVote } from "../nodes/ask-outside-vote.js";
import { CHANNEL_PREFIX } from "../waiting/queue-keys.js";

/** How one node is. What it did not say is null. */
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
  /** Of Redis; of Valkey with its name. */
  readonly version: string | null;
  /** Whether the server is a master or a replica. A replica rejects writes, so it cannot vote for a lock. */
  readonly role: "master" | "replica" | null;
  /** Another one after each start of the server. */
  readonly runId: string | null;
  /** Ms since the server started, to the second. */
  readonly uptimeMs: number | null;
  /** In words: `append-only file, fsync always`; `none`. */
  readonly persistence: string | null;
  /** The setting `maxmemory-policy` of the server; `noeviction` is the safe one. */
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

export type Told = Omit<NodeHealth, "findings">;

export interface Refusal {
  readonly what: string;
  readonly error: Error;
}

/** What one node said, and what it refused to say. */
export interface Checkup {
  readonly told: Told;
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
