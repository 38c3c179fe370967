import { acquireFencedScript } from "./acquire-fenced.js";
import { acquireScript } from "./acquire.js";
import { batchScript } from "./batch.js";
import { confirmFenceScript } from "./confirm-fence.js";
import { extendFencedScript } from "./extend-fenced.js";
import { extendScript } from "./extend.js";
import { handOverScript } from "./hand-over.js";
import { inspectScript } from "./inspect.js";
import { joinScript } from "./join.js";
import { leaveScript } from "./leave.js";
import { lookScript } from "./look.js";
import { releaseScript } from "./release.js";
import type { OperationScript, Script } from "./script.js";
import { takeFencedScript } from "./take-fenced.js";
import { takeScript } from "./take.js";

export type Argument = string | number;

/** The keys of locks and of their lines, in threes: lock, order, alive. */
export type LineKeys = readonly string[];

/** What a waiter says of itself when it stands in line. */
export interface Standing {
  /** By the nodes' clocks, in epoch ms. */
  readonly ticketMs: number;
  readonly id: string;
  /** By which it hears that it is next; empty where it polls. */
  readonly channel: string;
  /** How long the key is kept for it when it is next, in ms. */
  readonly graceMs: number;
  /** How long it stands there without asking again, in ms. */
  readonly lifeMs: number;
}

/** A fencing token, and where the nodes keep the largest that they accepted. */
export interface Fence {
  /** Whole, and below 2^53. */
  readonly token: number;
  /** One for each key of the lock, in their order. */
  readonly keys: readonly string[];
}

/** What is sent to a node. */
export interface Command {
  /** In lower case: ioredis lowers it several times a command, which costs nothing where it is. */
  readonly command: string;
  readonly args: readonly Argument[];
  /** The script behind an EVALSHA, which the node may not have cached. */
  readonly script?: Script;
  /** The values that it may set keys to, or let keys hold for longer. */
  readonly sets: readonly string[];
}

/** How an operation is not just asked and answered. */
interface Manner {
  readonly sets?: string;
  readonly always?: boolean;
  readonly keeps?: boolean;
  readonly otherwise?: () => Operation;
}

const NONE: readonly string[] = [];

/** What is asked of a node. */
export class Operation {
  readonly script: OperationScript;
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  /** The value that it may set a key to, or let a key hold for longer. */
  readonly sets: string | undefined;
  /** Sent again in full, where the node has not cached the script, whatever was decided meanwhile. */
  readonly always: boolean;
  /** It finds the lock's value there, or does nothing: a node that may have forgotten others' locks may vote. */
  readonly keeps: boolean;
  /** What is asked in its place where the node refuses its keys. */
  readonly otherwise: (() => Operation) | undefined;
  #command: Command | undefined;
  #keyCharacters: number | undefined;

  constructor(
    script: OperationScript,
    keys: readonly string[],
    args: readonly Argument[],
    { sets, always = false, keeps = false, otherwise }: Manner = {},
  ) {
    this.script = script;
    this.keys = keys;
    this.args = args;
    this.sets = sets;
    this.always = always;
    this.keeps = keeps;
    this.otherwise = otherwise;
  }

  /** How many characters its keys have together. */
  get keyCharacters(): number {
    return (this.#keyCharacters ??= this.keys.reduce((sum, { length }) => sum + length, 0));
  }

  /** It by itself, made once for all nodes. */
  get command(): Command {
    return (this.#command ??= this.#made());
  }

  /**
   * Source: the Redlock description, "Correct implementation with a single instance": `SET key value NX
   * PX ttl` acquires.
   */
  #made(): Command {
    const { script, keys, args } = this;
    const sets = this.sets === undefined ? NONE : [this.sets];
    const [key] = keys;
    if (script === acquireScript && key !== undefined && keys.length === 1) {
      const [value = "", ttlMs = 0] = args;
      return { command: "set", args: [key, value, "NX", "PX", ttlMs], sets };
    }
    return { command: "evalsha", args: [script.sha1, keys.length, ...keys, ...args], script, sets };
  }
}

/** Takes every key for `value`, or none; with a fence, proposes its token. */
export function acquireOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence?: Fence,
): Operation {
  const sets = { sets: value };
  if (fence === undefined) return new Operation(acquireScript, keys, [value, ttlMs], sets);
  return fenced(acquireFencedScript, keys, value, ttlMs, fence, sets);
}

/** Proposes a token where every key holds `value`. */
export function confirmFenceOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence: Fence,
): Operation {
  return fenced(confirmFenceScript, keys, value, ttlMs, fence);
}

/** Keeps every key that still holds `value` for `ttlMs` at least, or none. */
export function extendOperation(
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence?: Fence,
): Operation {
  const keeps = { sets: value, keeps: true } as const;
  if (fence === undefined) return new Operation(extendScript, keys, [value, ttlMs], keeps);
  return fenced(extendFencedScript, keys, value, ttlMs, fence, keeps);
}

function fenced(
  script: OperationScript,
  keys: readonly string[],
  value: string,
  ttlMs: number,
  fence: Fence,
  manner?: Manner,
): Operation {
  return new Operation(script, [...keys, ...fence.keys], fencedArgs(value, ttlMs, fence), manner);
}

/** The token as text: Lua would write 1.7e+15. */
function fencedArgs(value: string, ttlMs: number, fence: Fence): Argument[] {
  return [value, ttlMs, String(fence.token)];
}

/** Deletes the keys that hold `value`. */
export function releaseOperation(keys: readonly string[], value: string): Operation {
  return new Operation(releaseScript, keys, [value], { always: true });
}

/** Stands in line. */
export function joinOperation(keys: LineKeys, standing: Standing): Operation {
  return new Operation(joinScript, keys, argsOf(standing), { keeps: true });
}

/** Acquires what is free, or reserved for this waiter; stands in line for what is not. */
export function takeOperation(
  keys: LineKeys,
  value: string,
  ttlMs: number,
  standing: Standing,
  fence?: Fence,
): Operation {
  const rest = {
    sets: value,
    otherwise: () => acquireOperation(locksOf(keys), value, ttlMs, fence),
  };
  if (fence === undefined) {
    return new Operation(takeScript, keys, [value, ttlMs, ...argsOf(standing)], rest);
  }
  const args = [...fencedArgs(value, ttlMs, fence), ...argsOf(standing)];
  return new Operation(takeFencedScript, [...keys, ...fence.keys], args, rest);
}

/** Releases to the next in line. */
export function handOverOperation(keys: LineKeys, value: string): Operation {
  return new Operation(handOverScript, keys, [value], {
    always: true,
    otherwise: () => releaseOperation(locksOf(keys), value),
  });
}

/** Why a hand-over could not call the next in line, if so. */
export function failureIn(handOverReply: unknown): string | undefined {
  return typeof handOverReply === "string" && Number.isNaN(Number(handOverReply))
    ? handOverReply
    : undefined;
}

/** Leaves the line; what was reserved is freed for the waiter's lock where it holds one, or else passed on. */
export function leaveOperation(keys: LineKeys, id: string, holds: boolean): Operation {
  return new Operation(leaveScript, keys, [id, holds ? 1 : 0], { keeps: true });
}

/** Reads who waits. */
export function lookOperation(keys: LineKeys): Operation {
  return new Operation(lookScript, keys, []);
}

function argsOf({ ticketMs, id, channel, graceMs, lifeMs }: Standing): Argument[] {
  return [ticketMs, id, channel, graceMs, lifeMs];
}

function locksOf(keys: LineKeys): string[] {
  return keys.filter((_, index) => index % 3 === 0);
}

/** Reads what the keys hold. */
export function inspectOperation(keys: readonly string[]): Operation {
  return new Operation(inspectScript, keys, []);
}

/** What a node holds under one key. */
export interface FoundKey {
  /** The Redis type: `none` where there is no key. */
  readonly type: string;
  /** Of a string. */
  readonly value: string;
  /** As PTTL: -2 for no key, -1 for no expiry. */
  readonly pttl: number;
}

/** What an inspection answers, for each key in their order; nothing for another answer. */
export function foundIn(reply: unknown): FoundKey[] {
  const rows: unknown[] = Array.isArray(reply) ? reply : [];
  return rows.map((row) => {
    const [type, value, pttl] = Array.isArray(row) ? (row as unknown[]) : [];
    return { type: String(type), value: String(value), pttl: Number(pttl) };
  });
}

/** The last batch made: the nodes are mostly asked the same in a turn. */
let lastBatch: { readonly operations: readonly Operation[]; readonly command: Command } | undefined;

/** Several operations in one call. */
export function batchOf(operations: readonly Operation[]): Command {
  if (lastBatch !== undefined && isSame(lastBatch.operations, operations)) return lastBatch.command;
  const keys: string[] = [];
  const batch: Argument[] = [];
  const sets: string[] = [];
  for (const { script, keys: own, args, sets: value } of operations) {
    if (value !== undefined) sets.push(value);
    for (const key of own) keys.push(key);
    batch.push(script.name, own.length, args.length, ...args);
  }
  const command = {
    command: "evalsha",
    args: [batchScript.sha1, keys.length, ...keys, JSON.stringify(batch)],
    script: batchScript,
    sets,
  };
  lastBatch = { operations, command };
  return command;
}

function isSame(some: readonly Operation[], others: readonly Operation[]): boolean {
  return some.length === others.length && some.every((one, index) => one === others[index]);
}

/** The replies to the operations of a batch, an error for each that failed. */
export function repliesOf(batchReply: unknown): unknown[] {
  const replies: unknown = typeof batchReply === "string" ? JSON.parse(batchReply) : undefined;
  if (!Array.isArray(replies)) throw strangeReply(batchReply, "a string");
  return replies.map((reply: unknown) =>
    typeof reply === "object" && reply !== null && "err" in reply
      ? Object.assign(new Error(String(reply.err)), { name: "ReplyError" })
      : reply,
  );
}

/** The same as EVAL, for a node that has not cached the script. */
export function inFull({ args: [, ...args], sets }: Command, script: Script): Command {
  return { command: "eval", args: [script.text, ...args], sets };
}

/** How many of the keys an acquire or extend was applied to. SET answers OK or null, a script a number. */
export function appliedTo(reply: unknown, keyCount: number): number {
  if (reply === "OK") return keyCount;
  if (reply === null) return 0;
  // A client set to `stringNumbers` gives integers as strings.
  const applied = typeof reply === "string" ? Number(reply) : reply;
  if (typeof applied === "number" && Number.isInteger(applied)) return applied;
  throw strangeReply(reply, "OK, null or an integer");
}

/** What a node tells one who waits. */
export interface Told {
  /** Whether the waiter may take all of it. */
  readonly isOpen: boolean;
  /** In how many ms the locks expire that are in the way; undefined where that is not known. */
  readonly leftMs: number | undefined;
  /** The node's clock, in epoch ms. */
  readonly nodeMs: number;
  /** How many stand before it. */
  readonly rank: number;
}

/** What a join, or a refused take, answers; undefined for the answer to another. */
export function toldBy(reply: unknown): Told | undefined {
  if (!Array.isArray(reply)) return undefined;
  const [isOpen = 0, leftMs = -1, nodeMs = 0, rank = 0] = reply.map(Number);
  return { isOpen: isOpen === 1, leftMs: leftMs < 0 ? undefined : leftMs, nodeMs, rank };
}

/**
 * What a node that holds the lock answered to a token: that it accepted it, or the one that it has. Undefined
 * where it does not hold the lock.
 */
export function answerIn(reply: unknown): "accepted" | number | undefined {
  if (reply === "accepted") return reply;
  if (toldBy(reply) !== undefined) return undefined;
  const token = typeof reply === "string" ? Number(reply) : reply;
  if (token === 0) return undefined;
  if (typeof token === "number" && Number.isSafeInteger(token) && token > 0) return token;
  throw strangeReply(reply, "accepted, a token or 0");
}

function strangeReply(reply: unknown, expected: string): TypeError {
  return new TypeError(
    `The client gave a reply of type ${typeof reply} where Redis answers ${expected}. ` +
      "Does it transform replies? Redlock needs them as Redis sends them.",
  );
}
