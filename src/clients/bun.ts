import { types } from "node:util";
import { asError, invalidType, inWords } from "../errors.js";
import type { Argument } from "../operations/operation.js";
import type { Environment, Timer } from "../runtime/environment.js";
import type { BunRedisClient } from "./client.js";
import {
  type ChannelListener,
  type Connection,
  replyError,
  type Subscription,
} from "./connection.js";
import { Opening } from "./opening.js";

/** A connection that is not ready after this time counts as down: Bun's client says nothing of a refused attempt. */
const CONNECT_TIMEOUT_MS = 1000;

const METHODS = ["send", "connect", "close", "duplicate", "subscribe"] as const;

export function isBunRedisClient(entry: unknown): entry is BunRedisClient {
  if (typeof entry !== "object" || entry === null) return false;
  const candidate = entry as Record<string, unknown>;
  return (
    typeof candidate["connected"] === "boolean" &&
    METHODS.every((method) => typeof candidate[method] === "function")
  );
}

/** Throws a TypeError for a client of Bun on which the locks' promises would not hold. */
export function checkBunRedisClient(where: string, bun = process.versions["bun"]): void {
  if (bun === undefined || !/^(?:0|1\.[0-3])\./.test(bun)) return;
  throw invalidType(
    `${where} is a client of Bun ${bun}, which after a lost connection gives replies to the wrong commands. ` +
      "Use Bun 1.4 or later, or pass a redis:// URL.",
  );
}

/**
 * Returns a connection of the library's own to the server of a client of Bun. The client itself is left alone, because
 * it tells of its connection only in `onconnect` and `onclose`, which are the caller's to set.
 *
 * @param where the client's place in the list of nodes, which names the node until the server has told its address
 */
export function bunConnection(
  client: BunRedisClient,
  where: string,
  environment: Environment,
): Connection {
  return new BunConnection(client, where, environment);
}

class BunConnection implements Connection {
  epoch = 0;
  openedMs: number;
  failure: Error | undefined;
  name: string;
  /** The client does not say. It follows no redirection, so on a Cluster it gets errors for other servers' keys. */
  readonly isCluster = false;
  readonly #source: BunRedisClient;
  readonly #environment: Environment;
  readonly #subscriptions = new Set<Subscription>();
  readonly #opening = new Opening();
  #client: BunRedisClient | undefined;
  #hasBegun = false;
  #hasFailed = false;
  #hasEnded = false;
  /** Consecutive failures. */
  #failures = 0;
  #timer: Timer | undefined;

  constructor(source: BunRedisClient, where: string, environment: Environment) {
    this.#source = source;
    this.#environment = environment;
    this.openedMs = environment.monotonicMs();
    this.name = where;
  }

  get state(): Connection["state"] {
    if (this.#client?.connected === true) return "ready";
    // Bun's client connects again by itself after a loss, and has no event for the loss.
    return this.#hasFailed || this.#hasEnded || this.epoch > 0 ? "down" : "connecting";
  }

  send(command: string, args: readonly Argument[]): Promise<unknown> {
    const client = this.#client;
    if (client === undefined) return Promise.reject(new Error("Connection is closed."));
    try {
      return client.send(command, args.map(String)).catch(rethrow);
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  opened(): Promise<void> {
    const opened = this.#opening.wait();
    if (this.#hasEnded) this.#opening.fail(new Error("Connection is closed."));
    else if (!this.#hasBegun) this.#begin();
    return opened;
  }

  subscribe(channel: string, listener: ChannelListener): Subscription {
    const subscription = subscribe(this.#source, channel, listener);
    this.#subscriptions.add(subscription);
    return {
      close: () => {
        this.#subscriptions.delete(subscription);
        subscription.close();
      },
    };
  }

  renew(): void {
    // Calls `onclose`, which connects again.
    this.#client?.close();
  }

  async quit(): Promise<void> {
    // The reply comes after those to the commands before it. QUIT would make the client connect again.
    if (this.state === "ready") await this.send("ping", []).catch(() => undefined);
    this.disconnect();
  }

  disconnect(): void {
    this.#hasEnded = true;
    this.#setTimer(undefined);
    for (const subscription of this.#subscriptions) subscription.close();
    this.#subscriptions.clear();
    this.#client?.close();
    this.#opening.fail(this.failure ?? new Error("Connection is closed."));
  }

  #begin(): void {
    this.#hasBegun = true;
    this.#limitConnecting();
    this.#source.duplicate().then(
      (client) => {
        this.#adopt(client);
      },
      (error: unknown) => {
        this.#onFailure(asError(error));
      },
    );
  }

  #adopt(client: BunRedisClient): void {
    if (this.#hasEnded) {
      client.close();
      return;
    }
    this.#client = client;
    client.onconnect = () => {
      this.#onReady(client);
    };
    client.onclose = (error) => {
      this.#onFailure(asError(error));
    };
    // The duplicate of a connected client arrives connected.
    if (client.connected) this.#onReady(client);
    else connect(client);
  }

  #onReady(client: BunRedisClient): void {
    this.#setTimer(undefined);
    this.#hasFailed = false;
    this.#failures = 0;
    this.failure = undefined;
    this.epoch += 1;
    this.openedMs = this.#environment.monotonicMs();
    this.#opening.succeed();
    addressOf(client).then(
      (address) => {
        this.name = address ?? this.name;
      },
      // A user without the right to CLIENT INFO, or Redis 6.0, which has no such command.
      () => undefined,
    );
  }

  /** Called when the client is closed, or gave up after its `maxRetries`: it does not connect by itself any more. */
  #onFailure(error: Error): void {
    this.#fail(error);
    if (this.#hasEnded) return;
    this.#failures += 1;
    this.#setTimer(
      () => {
        if (this.#client === undefined) this.#begin();
        else {
          this.#limitConnecting();
          connect(this.#client);
        }
      },
      Math.min(50 * this.#failures, 500),
    );
  }

  #limitConnecting(): void {
    this.#setTimer(() => {
      this.#fail(new Error(`no connection in ${inWords(CONNECT_TIMEOUT_MS)}`));
    }, CONNECT_TIMEOUT_MS);
  }

  #fail(error: Error): void {
    this.failure = error;
    this.#hasFailed = true;
    this.#opening.fail(error);
  }

  #setTimer(callback: (() => void) | undefined, delayMs = 0): void {
    if (this.#timer !== undefined) this.#environment.clearTimer(this.#timer);
    this.#timer = callback && this.#environment.setBackgroundTimer(callback, delayMs);
  }
}

/** Connects. A failure arrives as `onclose`. */
function connect(client: BunRedisClient): void {
  client.connect().catch(() => undefined);
}

/** Returns the server's address, as the server itself sees it; undefined if it does not say. */
async function addressOf(client: BunRedisClient): Promise<string | undefined> {
  const info = String(await client.send("client", ["info"]));
  // A Unix socket has the port 0.
  return /\bladdr=(\S+)/.exec(info)?.[1]?.replace(/:0$/, "");
}

/**
 * Subscribes on a connection of its own. After a loss Bun's client connects again, but does not subscribe again, and a
 * second `subscribe` would deliver each message twice. So each loss makes a new client.
 */
function subscribe(
  source: BunRedisClient,
  channel: string,
  listener: ChannelListener,
): Subscription {
  let current: BunRedisClient | undefined;
  let isClosed = false;
  const open = async (): Promise<void> => {
    const client = await source.duplicate();
    if (isClosed) {
      client.close();
      return;
    }
    current = client;
    const isCurrent = (): boolean => current === client;
    if (!client.connected) await client.connect();
    client.onclose = () => {
      if (isCurrent()) listener.onLoss();
    };
    client.onconnect = () => {
      if (!isCurrent()) return;
      listener.onLoss();
      end();
      begin();
    };
    await client.subscribe(channel, (message) => {
      if (isCurrent()) listener.onMessage(message);
    });
    if (isCurrent()) listener.onOpen();
  };
  const begin = (): void => {
    open().catch((error: unknown) => {
      if (!isClosed)
        listener.onLoss(isErrorReply(error) ? replyError(error.message) : asError(error));
    });
  };
  const end = (): void => {
    const client = current;
    current = undefined;
    client?.close();
  };
  begin();
  return {
    close: () => {
      isClosed = true;
      end();
    },
  };
}

/** Gives an error reply the name by which the library knows it. */
function rethrow(error: unknown): never {
  throw isErrorReply(error) ? replyError(error.message) : error;
}

function isErrorReply(error: unknown): error is Error {
  return types.isNativeError(error) && "code" in error && error.code === "ERR_REDIS_SERVER_ERROR";
}
