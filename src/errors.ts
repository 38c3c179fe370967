import { types } from "node:util";
import type { ExecutionStats } from "./quorum/results.js";

/** The `code` of the errors of this library, if not a server's own error reply. Check it rather than the class. */
export type ErrorCode =
  | "ERR_REDLOCK_QUORUM"
  | "ERR_REDLOCK_VALIDITY"
  | "ERR_REDLOCK_HELD"
  | "ERR_REDLOCK_LOST"
  | "ERR_REDLOCK_EXPIRED"
  | "ERR_REDLOCK_TIMEOUT"
  | "ERR_REDLOCK_NODE_TIMEOUT"
  | "ERR_REDLOCK_NODE_DOWN"
  | "ERR_REDLOCK_CLOSED"
  | "ERR_REDLOCK_INVALID_ARGUMENT"
  | "ERR_REDLOCK_SCRIPTS";

/**
 * What a caller can do about an error. `held`: somebody else has a resource, as a quorum of nodes says; try again later.
 * `unavailable`: too few nodes answered in time; look at the nodes. `expired`: the lock had ended; acquire it again.
 * `closed`: the Redlock is closed, or closing; make a new one.
 */
export type FailureReason = "held" | "unavailable" | "expired" | "closed";

const REASONS: Partial<Record<ErrorCode, FailureReason>> = {
  ERR_REDLOCK_EXPIRED: "expired",
  ERR_REDLOCK_CLOSED: "closed",
};

/**
 * Rejects an operation that failed. Its `code` says how: no quorum (`ERR_REDLOCK_QUORUM`), a quorum but no validity
 * left (`ERR_REDLOCK_VALIDITY`), `acquireTimeout` passed (`ERR_REDLOCK_TIMEOUT`), the lock had already ended
 * (`ERR_REDLOCK_EXPIRED`), or the Redlock is closed (`ERR_REDLOCK_CLOSED`). Its `reason` says what to do about it. Its
 * message names the resources, who holds them if a quorum says so, and each node that voted against, and why.
 *
 * @example
 * ```ts
 * const status = error.reason === "held" ? 409 : 503;
 * ```
 */
export class ExecutionError extends Error {
  /** Always `ExecutionError`. */
  override readonly name = "ExecutionError";
  /** How the operation failed. */
  readonly code: ErrorCode;
  /** What the caller can do about it. */
  readonly reason: FailureReason;
  // Not properties, which would be printed with the error: the message names the resources, and one attempt fills a screen.
  readonly #resources: readonly string[];
  readonly #attempts: readonly Promise<ExecutionStats>[];

  constructor(
    message: string,
    attempts: readonly Promise<ExecutionStats>[],
    code: ErrorCode = "ERR_REDLOCK_QUORUM",
    reason: FailureReason = REASONS[code] ?? "unavailable",
    resources: readonly string[] = [],
  ) {
    super(message);
    this.#attempts = attempts;
    this.code = code;
    this.reason = reason;
    this.#resources = resources;
  }

  /** The names of the resources; none if the Redlock is closed. */
  get resources(): readonly string[] {
    return this.#resources;
  }

  /** One promise of statistics for each attempt; for the last 100 if there were more. */
  get attempts(): readonly Promise<ExecutionStats>[] {
    return this.#attempts;
  }
}

export function isClosed(error: Error): boolean {
  return error instanceof ExecutionError && error.code === "ERR_REDLOCK_CLOSED";
}

/**
 * From now on, errors get no stack: votes against, whose frames would be of the library alone. Taking a stack for each made a
 * refused attempt cost twice as much. Until somebody reads it, a stack also keeps the objects of its frames, such as the call.
 *
 * @returns the limit to restore
 */
function suspendStacks(): number {
  const { stackTraceLimit } = Error;
  // An assignment would throw where a program has frozen Error.
  Reflect.set(Error, "stackTraceLimit", 0);
  return stackTraceLimit;
}

function restoreStacks(limit: number): void {
  Reflect.set(Error, "stackTraceLimit", limit);
}

/** Makes a vote against of a node that replied. */
export function refusal(message: string): Error {
  const limit = suspendStacks();
  const error = new Error(message);
  restoreStacks(limit);
  return error;
}

/** A node's vote against: another lock holds one of the keys or, for an extension, this lock no longer does. */
export class ResourceLockedError extends Error {
  /** Always `ResourceLockedError`. */
  override readonly name = "ResourceLockedError";
  /** Always `ERR_REDLOCK_HELD`. */
  readonly code = "ERR_REDLOCK_HELD" satisfies ErrorCode;
}

export function isHeld(error: Error): boolean {
  return error instanceof ResourceLockedError;
}

/** The vote of a node that applied an operation to fewer keys than the lock has. */
export function appliedToFew(applied: number, keyCount: number): ResourceLockedError {
  const limit = suspendStacks();
  const vote = new ResourceLockedError(
    `The operation was applied to: ${applied} of the ${keyCount} requested resources.`,
  );
  restoreStacks(limit);
  return vote;
}

/** A node's vote against: it is down or silent, did not reply in time, or the restart guard holds it back. */
export class NodeError extends Error {
  /** Always `NodeError`. */
  override readonly name = "NodeError";

  constructor(
    message: string,
    /** `ERR_REDLOCK_NODE_TIMEOUT` if the node did not reply in time, `ERR_REDLOCK_NODE_DOWN` if it cannot vote. */
    readonly code: "ERR_REDLOCK_NODE_TIMEOUT" | "ERR_REDLOCK_NODE_DOWN",
    /** The node, as `host:port`. */
    readonly node: string,
    options?: { readonly cause: Error },
  ) {
    const limit = suspendStacks();
    super(message, options);
    restoreStacks(limit);
  }
}

/** The vote of a node that the library did not ask, mostly because the other nodes had already decided. */
export class Abstention extends NodeError {
  constructor(node: string, why = "not asked in time: the others had decided") {
    super(why, "ERR_REDLOCK_NODE_TIMEOUT", node);
  }
}

/** The vote of a node that the restart guard holds back. */
export class HeldBack extends NodeError {
  // Not a property, which would be printed with the error.
  readonly #sinceMs: number | undefined;

  /** @param sinceMs since when it may have forgotten locks, by the monotonic clock; undefined if that is not known yet */
  constructor(why: string, node: string, sinceMs?: number) {
    super(why, "ERR_REDLOCK_NODE_DOWN", node);
    this.#sinceMs = sinceMs;
  }

  get sinceMs(): number | undefined {
    return this.#sinceMs;
  }
}

/** The vote of a node that did not reply within its timeout. */
export function noAnswerIn(timeoutMs: number, node: string): NodeError {
  return new NodeError(`no answer in ${inWords(timeoutMs)}`, "ERR_REDLOCK_NODE_TIMEOUT", node);
}

type Coded<E extends Error> = E & { readonly code: ErrorCode };

/** Makes the error for an argument of the wrong type. The message says what, where and what to do. */
export function invalidType(
  message: string,
  code: ErrorCode = "ERR_REDLOCK_INVALID_ARGUMENT",
): Coded<TypeError> {
  return Object.assign(new TypeError(message), { code });
}

/** Makes the error for an argument out of range. */
export function outOfRange(message: string): Coded<RangeError> {
  return Object.assign(new RangeError(message), {
    code: "ERR_REDLOCK_INVALID_ARGUMENT" as const,
  });
}

/** Returns what was thrown as an Error. Recognises errors of other realms, such as Node's own under Jest. */
export function asError(thrown: unknown): Error {
  // A DOMException is none for isNativeError.
  if (types.isNativeError(thrown) || thrown instanceof DOMException) return thrown;
  try {
    return new Error(String(thrown));
  } catch {
    // An object without a prototype, for example.
    return new Error(Object.prototype.toString.call(thrown));
  }
}

/**
 * Returns a client's error without the command that failed: ioredis attaches the command's arguments, which for AUTH
 * are the password, and does so for nested errors as well.
 */
export function withoutCommand(thrown: unknown): Error {
  const error = asError(thrown);
  if (!("command" in error) && !("lastNodeError" in error) && !("previousErrors" in error)) {
    return error;
  }
  const bare = new Error(error.message);
  bare.name = error.name;
  if ("code" in error) Object.assign(bare, { code: error.code });
  if (error.stack !== undefined) bare.stack = error.stack;
  return bare;
}

/** Describes an error in a few words for a list of nodes: its code, such as ECONNREFUSED, or its message. */
export function inShort(error: Error): string {
  if (error instanceof NodeError && types.isNativeError(error.cause)) return inShort(error.cause);
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  if (code !== undefined && !code.startsWith("ERR_REDLOCK")) return code;
  return error.message === "" ? error.name : error.message.replace(/\.$/, "");
}

/** Formats a time for a person: `250 ms`, `2.2 s`. */
export function inWords(durationMs: number): string {
  return durationMs < 1000 ? `${Math.round(durationMs)} ms` : `${(durationMs / 1000).toFixed(1)} s`;
}

const MOST_NAMES = 3;
const LONGEST_NAME = 100;

/** Lists the names of resources for a person: the first three, and how many more there are. */
export function inList(names: readonly string[]): string {
  const shown = names
    .slice(0, MOST_NAMES)
    .map((name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}…` : name));
  const rest = names.length - shown.length;
  return rest > 0 ? `${shown.join(", ")} and ${rest} more` : shown.join(", ");
}

/** Says for a person how long a lock is held from now on: `for another 6.2 s`, `without an expiry`. */
export function remainingInWords(remainingMs: number): string {
  return remainingMs === Infinity ? "without an expiry" : `for another ${inWords(remainingMs)}`;
}

/** Describes a wrong value. The text is shown only for numbers, since a string may be a secret. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (value === "") return "an empty string";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "number") return String(value);
  return value === undefined ? "undefined" : `a value of type ${typeof value}`;
}
