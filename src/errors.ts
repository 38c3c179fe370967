import { types } from "node:util";
import type { ExecutionStats } from "./quorum/results.js";

/** Every error of the library carries one of these as its `code`; check it rather than the class. */
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
 * An operation that did not succeed: no quorum (`ERR_REDLOCK_QUORUM`), a quorum too late
 * (`ERR_REDLOCK_VALIDITY`), the caller's `acquireTimeout` over (`ERR_REDLOCK_TIMEOUT`), a lock that had
 * ended before (`ERR_REDLOCK_EXPIRED`), or a Redlock that was closed (`ERR_REDLOCK_CLOSED`). Its
 * message names the nodes and says why each voted against.
 */
export class ExecutionError extends Error {
  /** Always `ExecutionError`. */
  override readonly name = "ExecutionError";

  constructor(
    message: string,
    /** One promise of statistics an attempt; the last 100 where there were more. */
    readonly attempts: readonly Promise<ExecutionStats>[],
    /** Why the operation failed. */
    readonly code: ErrorCode = "ERR_REDLOCK_QUORUM",
  ) {
    super(message);
  }
}

export function isClosed(error: Error): boolean {
  return error instanceof ExecutionError && error.code === "ERR_REDLOCK_CLOSED";
}

/** A node's vote against: one of the keys is another's, or, for an extension, no longer this lock's. */
export class ResourceLockedError extends Error {
  /** Always `ResourceLockedError`. */
  override readonly name = "ResourceLockedError";
  /** Always `ERR_REDLOCK_HELD`. */
  readonly code = "ERR_REDLOCK_HELD" satisfies ErrorCode;
}

export function isHeld(error: Error): boolean {
  return error instanceof ResourceLockedError;
}

/** A node's vote against: it is down, silent or held back by the restart guard, or did not answer in time. */
export class NodeError extends Error {
  /** Always `NodeError`. */
  override readonly name = "NodeError";

  constructor(
    message: string,
    /** `ERR_REDLOCK_NODE_TIMEOUT` where the node did not reply in time, `ERR_REDLOCK_NODE_DOWN` where it cannot vote. */
    readonly code: "ERR_REDLOCK_NODE_TIMEOUT" | "ERR_REDLOCK_NODE_DOWN",
    /** host:port of the node. */
    readonly node: string,
    options?: { readonly cause: Error },
  ) {
    super(message, options);
  }
}

/**
 * The vote of a node that was not asked, or not in full: mostly since its round was decided before. No fault
 * of the node's.
 */
export class Abstention extends NodeError {
  constructor(node: string, why = "not asked in time: the others had decided") {
    super(why, "ERR_REDLOCK_NODE_TIMEOUT", node);
  }
}

/** The node let its time pass. */
export function noAnswerIn(timeoutMs: number, node: string): NodeError {
  return new NodeError(`no answer in ${inWords(timeoutMs)}`, "ERR_REDLOCK_NODE_TIMEOUT", node);
}

type Coded<E extends Error> = E & { readonly code: ErrorCode };

/** Wrong in kind: the message says what, where and what to do. */
export function invalidType(
  message: string,
  code: ErrorCode = "ERR_REDLOCK_INVALID_ARGUMENT",
): Coded<TypeError> {
  return Object.assign(new TypeError(message), { code });
}

/** Right in kind, but out of range. */
export function outOfRange(message: string): Coded<RangeError> {
  return Object.assign(new RangeError(message), {
    code: "ERR_REDLOCK_INVALID_ARGUMENT" as const,
  });
}

/** What was thrown, as an Error: also one of another realm, such as Node's own under Jest. */
export function asError(thrown: unknown): Error {
  return types.isNativeError(thrown) ? thrown : new Error(String(thrown));
}

/**
 * A client's error without the command that it was for: ioredis attaches the arguments, those of AUTH
 * included, also to errors inside errors.
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

/** An error in the few words that fit a list of nodes: its code, such as ECONNREFUSED, or its message. */
export function inShort(error: Error): string {
  if (error instanceof NodeError && types.isNativeError(error.cause)) return inShort(error.cause);
  const code = "code" in error && typeof error.code === "string" ? error.code : undefined;
  if (code !== undefined && !code.startsWith("ERR_REDLOCK")) return code;
  return error.message === "" ? error.name : error.message.replace(/\.$/, "");
}

/** A time as a person reads it: `250 ms`, `2.2 s`. */
export function inWords(durationMs: number): string {
  return durationMs < 1000 ? `${Math.round(durationMs)} ms` : `${(durationMs / 1000).toFixed(1)} s`;
}
