/** What the library needs of a client of ioredis 5 or 6 or of iovalkey: `Redis` and `Cluster` have it. */
export interface RedisClient {
  /** The state of the connection, in ioredis' words, such as `ready` or `reconnecting`. */
  readonly status: string;
  /** Whether this is the client of a Redis Cluster. */
  readonly isCluster?: boolean;
  /** Sends one command and resolves with the reply. */
  call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown>;
  /** Connects a client that waits for its first command. */
  connect(): Promise<unknown>;
  /** Ends the connection after the replies to the commands sent before. */
  quit(): Promise<unknown>;
  /** Ends the connection at once. */
  disconnect(): void;
  /** Calls the listener when the connection is ready, is closed, or has ended for good. */
  on(event: "ready" | "close" | "end", listener: () => void): unknown;
  /** Calls the listener with each connection error. */
  on(event: "error", listener: (error: Error) => void): unknown;
  /** Makes a second connection for notifications. Without it, waiters poll. */
  duplicate?(options?: object): Subscriber;
}

/** A second connection of a client, on which the server notifies waiters. */
export interface Subscriber {
  /** Subscribes to a channel, and resolves once the server has confirmed it. */
  subscribe(channel: string): Promise<unknown>;
  /** Ends the connection at once. */
  disconnect(): void;
  /** Calls the listener when the connection is ready, or is closed. */
  on(event: "ready" | "close", listener: () => void): unknown;
  /** Calls the listener with each connection error. */
  on(event: "error", listener: (error: Error) => void): unknown;
  /** Calls the listener with each message. */
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
}

/** Represents a node that was given as a URL, without credentials, in statistics and in `redlock.clients`. */
export interface NodeAddress {
  /** `host:port` */
  readonly name: string;
  /** The URL without user name and password. */
  readonly url: string;
}

/**
 * A client of node-redis 4, 5 or 6: of `createClient`, `createCluster` or `createSentinel`. How its other methods
 * look depends on which of these made it.
 */
export interface NodeRedisClient {
  /** Whether `connect()` was called, and the client has not been closed since. */
  readonly isOpen: boolean;
  /** Sends one command and resolves with the reply. */
  sendCommand(...args: never[]): Promise<unknown>;
  /** Connects. The library does so with the first command that needs it, unless the caller did before. */
  connect(): Promise<unknown>;
  /** Calls the listener for each of its events. */
  on(event: string, listener: (...args: unknown[]) => void): unknown;
}

/** Represents a node in statistics: the client that the caller passed in, or the address of a URL. */
export type Client = RedisClient | NodeRedisClient | NodeAddress;

/** What represents each of `Nodes` in statistics: a client has the type that it was passed in with. */
export type ClientOf<Nodes> =
  Nodes extends Iterable<infer Entry> ? (Entry extends string ? NodeAddress : Entry) : never;
