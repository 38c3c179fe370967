import { Redis } from "ioredis";
import { systemEnvironment } from "../environment.js";
import { asError, invalidType } from "../errors.js";
import type { Argument } from "../operations.js";
import type { RedisClient, Subscriber } from "./client.js";
import type { ChannelListener, Connection, Subscription } from "./connection.js";

const METHODS = ["call", "connect", "quit", "disconnect", "on"] as const;

export function isRedisClient(entry: unknown): entry is RedisClient {
  if (typeof entry !== "object" || entry === null) return false;
  const candidate = entry as Record<string, unknown>;
  return (
    typeof candidate["status"] === "string" &&
    METHODS.every((method) => typeof candidate[method] === "function")
  );
}

/**
 * A connection of our own, for a URL, with options that suit Redlock: what cannot be sent now fails
 * now, and nothing is sent a second time by the client.
 */
export function connectTo(url: string): Connection {
  const client = new Redis(url, {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 1000,
    // A server that loads its data is asked again after this long, not after its own estimate.
    maxLoadingRetryTime: 100,
    // A connection that does not end by itself holds up the end of the process for this long.
    disconnectTimeout: 250,
    retryStrategy: (failures) => Math.min(50 * failures, 500),
  });
  return new IoredisConnection(client, () => {
    client.disconnect(true);
  });
}

const known = new WeakMap<RedisClient, Connection>();

/** The connection of a client that the caller owns: one a client, however many Redlocks share it, so that its listeners do not add up. */
export function connectionOf(client: RedisClient): Connection {
  let connection = known.get(client);
  if (connection === undefined) {
    connection = new IoredisConnection(client);
    known.set(client, connection);
  }
  return connection;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (failure: Error) => void;
}

class IoredisConnection implements Connection {
  epoch = 0;
  openedMs = systemEnvironment.monotonicMs();
  failure: Error | undefined;
  readonly isCluster: boolean;
  readonly renew?: () => void;
  readonly #client: RedisClient;
  readonly #subscribers = new Set<Subscriber>();
  #failed = false;
  #waiters: Waiter[] = [];

  constructor(client: RedisClient, renew?: () => void) {
    this.#client = client;
    this.isCluster = client.isCluster === true;
    if (renew !== undefined) this.renew = renew;
    client.on("ready", () => {
      this.epoch += 1;
      this.openedMs = systemEnvironment.monotonicMs();
      this.#failed = false;
      this.failure = undefined;
      for (const { resolve } of this.#takeWaiters()) resolve();
    });
    client.on("close", () => {
      this.#failed = true;
      const failure = this.failure ?? new Error("Connection is closed.");
      for (const { reject } of this.#takeWaiters()) reject(failure);
    });
    client.on("error", (error) => {
      this.failure = error;
    });
    client.on("end", () => {
      for (const subscriber of this.#subscribers) subscriber.disconnect();
      this.#subscribers.clear();
    });
  }

  get name(): string {
    return addressOf(this.#client);
  }

  get state(): Connection["state"] {
    switch (this.#client.status) {
      case "ready":
        return "ready";
      case "wait":
      case "connecting":
      case "connect":
        return this.#failed ? "down" : "connecting";
      default:
        return "down";
    }
  }

  send(command: string, args: readonly Argument[]): Promise<unknown> {
    try {
      // The limits of one lock and of one call keep these far below what a function's call can take.
      return this.#client.call(command, ...args);
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  opened(): Promise<void> {
    // A lazy client connects when it is first needed; its failure arrives as an event.
    if (this.#client.status === "wait") this.#client.connect().catch(() => undefined);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  /** A Cluster says of no message how many heard it. */
  subscribe(channel: string, listener: ChannelListener): Subscription | undefined {
    const client = this.#client;
    if (client.isCluster === true || client.duplicate === undefined) return undefined;
    const subscriber = client.duplicate({ lazyConnect: false, autoResubscribe: false });
    this.#subscribers.add(subscriber);
    const close = (): void => {
      this.#subscribers.delete(subscriber);
      subscriber.disconnect();
    };
    subscriber.on("ready", () => {
      subscriber.subscribe(channel).then(
        () => {
          listener.onOpen();
        },
        (error: unknown) => {
          listener.onLoss(asError(error));
        },
      );
    });
    subscriber.on("close", () => {
      listener.onLoss();
    });
    subscriber.on("error", () => undefined);
    subscriber.on("message", (_, message) => {
      listener.onMessage(message);
    });
    return { close };
  }

  async quit(): Promise<void> {
    if (this.state === "ready") await this.#client.quit();
    else this.disconnect();
  }

  disconnect(): void {
    this.#client.disconnect();
  }

  #takeWaiters(): Waiter[] {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }
}

interface Address {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
}

/** Read anew each time: a Cluster client knows no node before it has connected. */
function addressOf(client: RedisClient): string {
  if (client.isCluster === true) {
    const { nodes } = client as { nodes?: () => { options: Address }[] };
    const first = nodes?.call(client)[0];
    return first === undefined ? "cluster" : `cluster ${inText(first.options)}`;
  }
  const { options } = client as { options?: Address };
  return inText(options ?? {});
}

function inText({ path, host = "127.0.0.1", port = 6379 }: Address): string {
  return path ?? `${host}:${port}`;
}

/** The URL without user name and password. Throws, without showing the text, where it is no Redis URL. */
export function publicUrl(text: string, where: string): { name: string; url: string } {
  const parsed = URL.canParse(text) && isDecodable(text) ? new URL(text) : undefined;
  if (
    parsed === undefined ||
    !["redis:", "rediss:"].includes(parsed.protocol) ||
    parsed.hostname === ""
  ) {
    throw invalidType(
      `${where} is not a URL of the form redis://host:port or rediss://host:port ` +
        "(its text is not shown, since it may hold a password). Give a URL, or a client of ioredis.",
    );
  }
  const name = `${parsed.hostname.toLowerCase()}:${parsed.port === "" ? 6379 : parsed.port}`;
  return { name, url: `${parsed.protocol}//${name}${parsed.pathname}` };
}

/** Whether a client can read its user name and password. */
function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
