/** What the library needs of a client. `Redis` and `Cluster` of ioredis 5 and 6 have it. */
export interface RedisClient {
  readonly status: string;
  readonly isCluster?: boolean;
  call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown>;
  connect(): Promise<unknown>;
  quit(): Promise<unknown>;
  disconnect(): void;
  on(event: "ready" | "close" | "end", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  /** Makes a second connection for notifications. Without it, waiters poll. */
  duplicate?(options?: object): Subscriber;
}

/** A second connection of a client, on which the server notifies waiters. */
export interface Subscriber {
  subscribe(channel: string): Promise<unknown>;
  disconnect(): void;
  on(event: "ready" | "close", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "message", listener: (channel: string, message: string) => void): unknown;
}

/** Represents a node that was given as a URL, without credentials, in statistics and in `redlock.clients`. */
export interface NodeAddress {
  /** `host:port` */
  readonly name: string;
  /** The URL without user name and password. */
  readonly url: string;
}

/** Represents a node in statistics: the client that the caller passed in, or the address of a URL. */
export type Client = RedisClient | NodeAddress;
