import { types } from "node:util";
import { refusal } from "../errors.js";
import type { Argument } from "../operations/operation.js";

/**
 * The connection to one Redis server. Each client library has an adapter that implements this interface; so have the
 * nodes of the simulator.
 */
export interface Connection {
  /** `host:port`, without credentials. */
  readonly name: string;
  /**
   * The server, its database and the client's own key prefix. Connections with equal keyspaces reach the same keys.
   * Undefined if the client does not tell.
   */
  readonly keyspace?: string | undefined;
  /**
   * `connecting`: for the first time, without a failure so far. `down`: closed, ended, or reconnecting after a
   * failure.
   */
  readonly state: "connecting" | "ready" | "down";
  /** How often the connection has become ready. A reply in a later epoch than its command belongs to a resent command. */
  readonly epoch: number;
  /** When the connection last became ready, by the monotonic clock. */
  readonly openedMs: number;
  /** Whether several servers stand behind the client, so that the next command may reach another one. */
  readonly isCluster: boolean;
  /** Whether nothing notices that the connection has died silently, as behind a firewall that drops packets. */
  readonly lacksSocketTimeout?: boolean;
  /** Why the connection is down, if the client said so. */
  readonly failure: Error | undefined;
  /** Sends a command. Rejects with an error that `isReply` knows if, and only if, the server replied with an error. */
  send(command: string, args: readonly Argument[]): Promise<unknown>;
  /** Resolves when the connection is next ready, rejects when it next fails. */
  opened(): Promise<void>;
  /**
   * Subscribes to a channel on a connection of its own, which ends with this one. Absent, or returns undefined, if the
   * client cannot subscribe. Throws what the client throws.
   */
  subscribe?(channel: string, listener: ChannelListener): Subscription | undefined;
  /** Replaces a connection that has gone silent. Absent if the caller owns the client. */
  renew?(): void;
  /** Closes the connection after the commands already sent. */
  quit(): Promise<void>;
  /** Closes the connection at once. */
  disconnect(): void;
}

/** Receives a subscription's state and messages. */
export interface ChannelListener {
  /** The server has confirmed the subscription. Called again after each loss that was repaired. */
  onOpen(): void;
  /** The subscription is lost; with the error if SUBSCRIBE failed. */
  onLoss(error?: Error): void;
  onMessage(message: string): void;
}

export interface Subscription {
  close(): void;
}

/** Makes the error of a server's reply, by which `isReply` knows it. */
export function replyError(message: string): Error {
  return Object.assign(refusal(message), { name: "ReplyError" });
}

/**
 * Returns whether the server replied with this error, as opposed to a lost connection. ioredis says it by the name of the
 * error, node-redis by its class.
 */
export function isReply(error: unknown): error is Error {
  return types.isNativeError(error) && (error.name === "ReplyError" || isErrorReply(error));
}

/** Returns the error of a server's reply under the name that it has with every client. */
export function asReply(error: Error): Error {
  return error.name === "ReplyError" ? error : replyError(error.message);
}

/** Not `instanceof`: the class is that of the caller's copy of node-redis. */
function isErrorReply(error: Error): boolean {
  let prototype: unknown = Object.getPrototypeOf(error);
  while (typeof prototype === "object" && prototype !== null) {
    if (prototype.constructor.name === "ErrorReply") return true;
    prototype = Object.getPrototypeOf(prototype);
  }
  // A bundler may have renamed the class. None of the client's own errors, and of the system's, begins like a reply.
  return (
    error.name === "Error" &&
    error.constructor.name !== "Error" &&
    !("code" in error) &&
    /^[A-Z][A-Z\d_]+ /.test(error.message)
  );
}

/** Returns whether the server refused only for the moment. */
export function isPassing({ message }: Error): boolean {
  return /^(?:BUSY|LOADING|MASTERDOWN|NOAUTH)\b/.test(message);
}
