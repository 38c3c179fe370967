import { types } from "node:util";
import type { Argument } from "../operations/operation.js";

/**
 * One Redis server as the library sees it. A client library fits in by an adapter of a few lines; the
 * simulator's nodes fit in the same way.
 */
export interface Connection {
  /** `host:port`, never a credential. */
  readonly name: string;
  /** The server, its database and the client's own key prefix: connections of equal ones reach the same keys. */
  readonly keyspace: string;
  /**
   * `connecting`: for the first time, without a failure so far. `down`: closed, ended, or
   * reconnecting after a failure.
   */
  readonly state: "connecting" | "ready" | "down";
  /** Counts the times the connection became ready: a reply in a later epoch than its command was resent. */
  readonly epoch: number;
  /** When it last became ready, by the monotonic clock. */
  readonly openedMs: number;
  /** Several servers behind one client: nothing that one of them says holds for the next command. */
  readonly isCluster: boolean;
  /** Nothing ends this connection when it dies without a word, as behind a firewall that drops packets. */
  readonly lacksSocketTimeout?: boolean;
  /** Why the connection is down, where the client said so. */
  readonly failure: Error | undefined;
  /** Rejects with an error named `ReplyError` where the server answered with one. */
  send(command: string, args: readonly Argument[]): Promise<unknown>;
  /** Resolves when the connection is next ready, rejects when it next fails. */
  opened(): Promise<void>;
  /**
   * Listens to a channel, on a connection of its own that ends with this one; absent, or undefined, where
   * the client cannot. Throws what the client throws.
   */
  subscribe?(channel: string, listener: ChannelListener): Subscription | undefined;
  /** Gives up a connection on which nothing is heard, and makes a new one; absent where the caller owns it. */
  renew?(): void;
  /** Ends the connection, after the commands already sent. */
  quit(): Promise<void>;
  /** Ends the connection at once. */
  disconnect(): void;
}

/** Told of a subscription's state and messages. */
export interface ChannelListener {
  /** The server confirmed: it may be told more than once, after a loss. */
  onOpen(): void;
  /** Nothing is heard any more; the error where SUBSCRIBE failed. */
  onLoss(error?: Error): void;
  onMessage(message: string): void;
}

export interface Subscription {
  close(): void;
}

/** Whether this is an error with which the server answered, and not the loss of a connection. */
export function isReply(error: unknown): error is Error {
  return types.isNativeError(error) && error.name === "ReplyError";
}

/** Whether the server only could not do it just now. */
export function isPassing({ message }: Error): boolean {
  return /^(?:BUSY|LOADING|MASTERDOWN|NOAUTH)\b/.test(message);
}
