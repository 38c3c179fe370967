import type { Environment } from "../runtime/environment.js";
import { asError, invalidType } from "../errors.js";
import type { Argument } from "../operations/operation.js";
import type { RedisClient, Subscriber } from "./client.js";
import { type ChannelListener, type Connection, isReply, type Subscription } from "./connection.js";
import { encodedSending, unpipelinedSending } from "./encoded-commands.js";
import { loadIoredis } from "./load-ioredis.js";
import { Opening } from "./opening.js";

/** What ioredis reads rightly from the query of a URL, and what does not change how it sends commands. */
const OPTION_OF_URL = /^(db=\d+|family=[046]|(username|password|connectionName)=.*)$/s;

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
 * Connects to a URL, with options that suit Redlock: a command that cannot be sent now fails now, and the client never
 * sends a command twice.
 */
export function connectTo(url: string, environment: Environment): Connection {
  const { Redis } = loadIoredis();
  // ioredis knows a scheme only in lower case, and without a space before it.
  const client = new Redis(new URL(url).href, {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 1000,
    // While a server loads its data, the client asks it again after this time, not after the server's estimate.
    maxLoadingRetryTime: 100,
    // A connection that does not close keeps the process alive for at most this long.
    disconnectTimeout: 250,
    retryStrategy: (failures) => Math.min(50 * failures, 500),
  });
  return new IoredisConnection(client, environment, () => {
    client.disconnect(true);
  });
}

/** Returns the connection of an ioredis client, which the caller owns. */
export function ioredisConnection(client: RedisClient, environment: Environment): Connection {
  return new IoredisConnection(client, environment);
}

class IoredisConnection implements Connection {
  epoch = 0;
  openedMs: number;
  failure: Error | undefined;
  readonly isCluster: boolean;
  readonly lacksSocketTimeout: boolean;
  readonly renew?: () => void;
  readonly #client: RedisClient;
  /** Absent if the caller owns the client. */
  readonly #reconnect: (() => void) | undefined;
  readonly #sendOtherwise: Connection["send"] | undefined;
  readonly #subscribers = new Set<Subscriber>();
  #failed = false;
  /** Whether the server refused the client's database, so that its commands would go to database 0. */
  #isElsewhere = false;
  readonly #opening = new Opening();

  constructor(client: RedisClient, environment: Environment, reconnect?: () => void) {
    this.#client = client;
    this.#reconnect = reconnect;
    this.#sendOtherwise = encodedSending(client) ?? unpipelinedSending(client);
    this.openedMs = environment.monotonicMs();
    this.isCluster = client.isCluster === true;
    this.lacksSocketTimeout = reconnect === undefined && socketTimeoutOf(client) === undefined;
    if (reconnect !== undefined) {
      this.renew = () => {
        // The client connects to a server that hangs without an error of its own.
        this.failure = new Error("no answer on a new connection");
        reconnect();
      };
    }
    client.on("ready", () => {
      if (this.#isElsewhere) return;
      this.epoch += 1;
      this.openedMs = environment.monotonicMs();
      this.#failed = false;
      this.failure = undefined;
      this.#opening.succeed();
    });
    client.on("close", () => {
      this.#isElsewhere = false;
      this.#failed = true;
      this.#opening.fail(this.failure ?? new Error("Connection is closed."));
    });
    client.on("error", (error) => {
      if (this.#isElsewhere) return;
      this.failure = error;
      if (isOfSelect(error)) this.#stayAway(error);
    });
    // Of one that was ready before, nobody may have heard a refusal.
    const { condition, options } = client as ClientOfAddress;
    const database = condition?.select ?? options?.db ?? 0;
    if (client.status === "ready" && database !== 0) {
      client.call("select", database).catch((error: unknown) => {
        if (isReply(error)) this.#stayAway(error);
      });
    }
    client.on("end", () => {
      for (const subscriber of this.#subscribers) subscriber.disconnect();
      this.#subscribers.clear();
    });
  }

  get name(): string {
    return addressOf(this.#client);
  }

  get keyspace(): string | undefined {
    const { isCluster, options } = this.#client as ClientOfAddress;
    // A Cluster client names any server that it knows, so its name does not tell one Cluster from another.
    if (isCluster === true) return undefined;
    return `${this.name}/${options?.db ?? 0} ${options?.keyPrefix ?? ""}`;
  }

  get state(): Connection["state"] {
    if (this.#isElsewhere) return "down";
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

  /** The client goes on in database 0, where its locks would exclude nobody. Only a new connection selects again. */
  #stayAway({ message }: Error): void {
    this.failure = new Error(`the database of this client was refused: ${message}`);
    this.#isElsewhere = true;
    // What was sent already, replies later, and is not a vote.
    this.epoch += 1;
    this.#opening.fail(this.failure);
    this.#reconnect?.();
  }

  send(command: string, args: readonly Argument[]): Promise<unknown> {
    try {
      if (this.#sendOtherwise !== undefined) return this.#sendOtherwise(command, args);
      // The limits on locks and batches keep the arguments far below the most that a function call can take.
      return this.#client.call(command, ...args);
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  opened(): Promise<void> {
    // A lazy client connects when it is first needed. Its failure arrives as an event.
    if (this.#client.status === "wait") this.#client.connect().catch(() => undefined);
    return this.#opening.wait();
  }

  /** Not for a Cluster: its PUBLISH does not return how many clients on other servers received the message. */
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
    if (this.#client.status === "ready") await this.#client.quit();
    else this.disconnect();
  }

  disconnect(): void {
    // Even if the connection is gone, ioredis would set a timer here, which would keep the process alive.
    if (this.#client.status !== "end") this.#client.disconnect();
  }
}

function isOfSelect(error: Error & { readonly command?: { readonly name?: unknown } }): boolean {
  return isReply(error) && error.command?.name === "select";
}

/** Returns the client's `socketTimeout` in ms; undefined if it has none. */
function socketTimeoutOf(client: RedisClient): unknown {
  const { options } = client as { options?: { socketTimeout?: unknown; redisOptions?: object } };
  const ofEach: { socketTimeout?: unknown } | undefined = client.isCluster
    ? options?.redisOptions
    : options;
  return ofEach?.socketTimeout;
}

interface Address {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
}

/** Where an ioredis client connects to, as far as it tells. */
interface ClientOfAddress {
  readonly isCluster?: boolean;
  readonly nodes?: () => { options: Address }[];
  readonly condition?: { readonly select?: number };
  readonly options?: Address & {
    readonly db?: number;
    readonly keyPrefix?: string;
    /** The name of the group whose master the Sentinels know. */
    readonly name?: string;
    readonly sentinels?: readonly Address[] | null;
  };
}

/** Returns the address. It is not cached, since a Cluster client knows no server before it has connected. */
function addressOf(client: ClientOfAddress): string {
  const { options = {} } = client;
  if (client.isCluster === true) {
    const first = client.nodes?.()[0];
    return first === undefined ? "cluster" : `cluster ${inText(first.options)}`;
  }
  const sentinel = options.sentinels?.[0];
  // Independent groups often have the same name. Only their Sentinels tell them apart.
  if (sentinel !== undefined) return `sentinel ${options.name ?? ""}@${inText(sentinel, 26379)}`;
  return inText(options);
}

function inText({ path, host = "127.0.0.1", port }: Address, usualPort = 6379): string {
  return path ?? `${host}:${port ?? usualPort}`;
}

/** Returns the URL without user name and password. If it is not a Redis URL, throws without showing the text. */
export function publicUrl(text: string, where: string): { name: string; url: string } {
  const parsed = URL.canParse(text) && isDecodable(text) ? new URL(text) : undefined;
  if (
    parsed === undefined ||
    !["redis:", "rediss:"].includes(parsed.protocol) ||
    parsed.hostname === ""
  ) {
    throw invalidType(
      `${where} is not a URL of the form redis://host:port or rediss://host:port ` +
        "(its text is not shown, since it may hold a password). Give a URL, or a client of ioredis or node-redis.",
    );
  }
  if (!/^\/?\d*$/.test(parsed.pathname)) {
    throw invalidType(
      `${where} has a path that is not the number of a database (its text is not shown, since it may hold a password). ` +
        "Give a URL such as redis://host:port/1, or leave the number out.",
    );
  }
  if (![...parsed.searchParams].every((option) => OPTION_OF_URL.test(option.join("=")))) {
    throw invalidType(
      `${where} has an option after its “?” that a URL cannot set (its text is not shown, since it may hold a password). ` +
        "Give a URL such as redis://host:port?family=6, with no options but db, family, username, password and " +
        "connectionName, or pass a client of ioredis or node-redis.",
    );
  }
  const name = `${parsed.hostname.toLowerCase()}:${parsed.port === "" ? 6379 : parsed.port}`;
  return { name, url: `${parsed.protocol}//${name}${parsed.pathname}` };
}

/** Returns whether a client can decode its user name and password. */
function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
