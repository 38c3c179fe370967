import type { Environment, Timer } from "../runtime/environment.js";
import { asError, invalidType } from "../errors.js";
import type { Argument } from "../operations/operation.js";
import type { NodeRedisClient } from "./client.js";
import type { ChannelListener, Connection, Subscription } from "./connection.js";
import { kindOfClient, type NodeRedisKind } from "./node-redis-kinds.js";
import { onceForAllNodes } from "./once-for-all-nodes.js";
import { Opening } from "./opening.js";

/** How often a client that emits no event when it is ready is looked at, in ms. */
const READINESS_INTERVAL_MS = 10;
/** After what time a client whose `connect()` has failed, and that does not try again itself, is connected again. */
const RECONNECT_AFTER_MS = 500;

/** Returns the connection of a node-redis client, which the caller owns. */
export function nodeRedisConnection(client: NodeRedisClient, environment: Environment): Connection {
  return new NodeRedisConnection(kindOfClient(client), environment);
}

/** A client of node-redis 4, 5 or 6: a single client, a Cluster client or a Sentinel client. */
class NodeRedisConnection implements Connection {
  epoch = 0;
  openedMs: number;
  failure: Error | undefined;
  readonly isCluster: boolean;
  readonly lacksSocketTimeout: boolean;
  readonly #client: NodeRedisKind;
  readonly #environment: Environment;
  readonly #subscriptions = new Set<Subscription>();
  #hasFailed = false;
  #hasEnded = false;
  #reconnectMs = Infinity;
  readonly #opening = new Opening();
  #readinessTimer: Timer | undefined;

  constructor(client: NodeRedisKind, environment: Environment) {
    this.#client = client;
    this.#environment = environment;
    this.openedMs = environment.monotonicMs();
    this.isCluster = client.isCluster;
    this.lacksSocketTimeout = client.lacksSocketTimeout;
    client.on("ready", () => {
      this.#onReady();
    });
    client.on("error", (error) => {
      this.#onError(error);
    });
    client.on("end", () => {
      this.#onEnd();
    });
    client.onReplaced?.(() => {
      this.#openNewEpoch();
    });
  }

  get name(): string {
    return this.#client.name;
  }

  get keyspace(): string | undefined {
    return this.#client.keyspace;
  }

  get state(): Connection["state"] {
    if (this.#client.isReady) return "ready";
    if (this.#hasEnded) return "down";
    return this.#hasFailed && !this.#mayReconnect ? "down" : "connecting";
  }

  get #mayReconnect(): boolean {
    return !this.#client.isOpen && this.#environment.monotonicMs() >= this.#reconnectMs;
  }

  send(command: string, args: readonly Argument[]): Promise<unknown> {
    try {
      return this.#client.send(lineOf(command, args));
    } catch (error) {
      return Promise.reject(asError(error));
    }
  }

  /** Connects a client on which nobody has called `connect()`. A later `connect()` of the caller then fails. */
  opened(): Promise<void> {
    const opened = this.#opening.wait();
    if (!this.#client.isOpen && this.state === "connecting") {
      this.#reconnectMs = Infinity;
      this.#client.connect().catch((error: unknown) => {
        this.#onError(asError(error));
        if (!this.#client.emitsReady) {
          this.#reconnectMs = this.#environment.monotonicMs() + RECONNECT_AFTER_MS;
        }
      });
    }
    this.#watchReadiness();
    return opened;
  }

  subscribe(channel: string, listener: ChannelListener): Subscription | undefined {
    const subscription = this.#client.subscribe(channel, listener);
    if (subscription === undefined) return undefined;
    this.#subscriptions.add(subscription);
    return {
      close: () => {
        this.#subscriptions.delete(subscription);
        subscription.close();
      },
    };
  }

  async quit(): Promise<void> {
    if (this.#client.isReady) {
      this.#closeSubscriptions();
      await this.#client.quit();
    } else {
      this.disconnect();
    }
  }

  disconnect(): void {
    this.#reconnectMs = Infinity;
    this.#closeSubscriptions();
    this.#client.disconnect();
  }

  #onReady(): void {
    this.#hasFailed = false;
    this.#hasEnded = false;
    this.failure = undefined;
    this.#openNewEpoch();
    this.#opening.succeed();
  }

  #openNewEpoch(): void {
    this.epoch += 1;
    this.openedMs = this.#environment.monotonicMs();
  }

  /** There is no event for a lost connection but the error: the client is no longer ready then. */
  #onError(error: Error): void {
    this.failure = error;
    if (this.#client.isReady) return;
    this.#hasFailed = true;
    this.#opening.fail(error);
  }

  #onEnd(): void {
    this.#hasEnded = true;
    this.#closeSubscriptions();
    this.#opening.fail(this.failure ?? new Error("Connection is closed."));
  }

  #closeSubscriptions(): void {
    for (const subscription of this.#subscriptions) subscription.close();
    this.#subscriptions.clear();
  }

  /** Cluster clients, and Sentinel clients of version 5, emit no event when they are ready. */
  #watchReadiness(): void {
    if (this.#client.emitsReady || this.#readinessTimer !== undefined) return;
    this.#readinessTimer = this.#environment.setBackgroundTimer(() => {
      this.#readinessTimer = undefined;
      // An event may have told before.
      if (!this.#opening.isAwaited) return;
      if (this.#client.isReady) this.#onReady();
      else if (this.#client.isOpen) this.#watchReadiness();
    }, READINESS_INTERVAL_MS);
  }
}

/** The texts of a command. */
const lineOf = onceForAllNodes((command, args): readonly string[] => [
  command,
  ...args.map(String),
]);

/** Throws a TypeError for a client of node-redis on which the locks' promises would not hold. */
export function checkNodeRedisClient(client: NodeRedisClient, where: string): void {
  const why = refusalOf(client);
  if (why !== undefined) throw invalidType(`${where} is ${why}`);
}

function refusalOf(client: NodeRedisClient): string | undefined {
  const { options, _keyPrefix, totalClients } = client as {
    options?: { keyPrefix?: string; legacyMode?: boolean } | null;
    _keyPrefix?: string;
    totalClients?: number;
  };
  if (totalClients !== undefined) {
    return (
      "a pool of node-redis: it spreads commands over several connections, and a lock's commands must reach the " +
      "server in order. Pass a client of createClient(), which sends them all over one connection."
    );
  }
  if ((options?.keyPrefix ?? _keyPrefix ?? "") !== "") {
    return (
      "a client of node-redis with a keyPrefix, which it does not apply to commands such as the lock's. " +
      "Pass a client without it, and set `keyPrefix` in the settings of Redlock."
    );
  }
  if (options?.legacyMode === true) {
    return (
      "a client of node-redis in legacy mode, which gives no promises. " +
      "Pass client.duplicate({ legacyMode: false })."
    );
  }
  return undefined;
}
