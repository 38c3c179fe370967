import { asError } from "../errors.js";
import type { NodeRedisClient } from "./client.js";
import { type ChannelListener, isPassing, isReply, type Subscription } from "./connection.js";

/** The part of a node-redis client that its three kinds have in different forms. */
export interface NodeRedisKind {
  readonly name: string;
  /** Undefined if the client does not tell. */
  readonly keyspace?: string;
  readonly isCluster: boolean;
  readonly lacksSocketTimeout: boolean;
  /** Whether `connect()` was called, and the client has not been closed since. */
  readonly isOpen: boolean;
  readonly isReady: boolean;
  readonly emitsReady: boolean;
  send(line: readonly string[]): Promise<unknown>;
  connect(): Promise<unknown>;
  on(event: "ready" | "end", listener: () => void): void;
  on(event: "error", listener: (error: Error) => void): void;
  /**
   * Calls the listener when another server answers from now on, without an event `ready`. Absent for a single client,
   * which has that event, and for a Cluster, which the restart guard does not watch.
   */
  onReplaced?(listener: () => void): void;
  subscribe(channel: string, listener: ChannelListener): Subscription | undefined;
  quit(): Promise<unknown>;
  disconnect(): void;
}

/** An explicit `timeout` spares an AbortSignal for each command. */
const NO_TIMEOUT = { timeout: undefined };
/**
 * In place of the client's own options, which may change the type of a reply. With these options, a command takes
 * node-redis a sixth longer.
 */
const USUAL_REPLIES = {
  ...NO_TIMEOUT,
  typeMapping: {},
  returnBuffers: false,
  asap: false,
  abortSignal: undefined,
};

/** The methods that all kinds share. */
interface Common {
  readonly isOpen: boolean;
  readonly isReady?: boolean;
  connect(): Promise<unknown>;
  on(event: string, listener: (...args: unknown[]) => void): unknown;
  /** Absent before version 5, where `quit` does the same. */
  close?(): Promise<unknown>;
  quit?(): Promise<unknown>;
  /** Absent before version 5, where `disconnect` does the same. */
  destroy?(): void;
  disconnect?(): unknown;
}

interface SocketOptions {
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
  readonly socketTimeout?: number;
}

interface SingleClient extends Common {
  readonly isReady: boolean;
  readonly options?: { readonly socket?: SocketOptions; readonly database?: number } | null;
  sendCommand(args: readonly string[], options: object): Promise<unknown>;
  duplicate?(): SingleClient;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
}

interface ClusterClient extends Common {
  readonly masters: readonly { readonly address: string }[];
  nodeClient(node: object): SingleClient | Promise<SingleClient>;
  sendCommand(
    firstKey: string,
    isReadonly: boolean,
    args: readonly string[],
    options: object,
  ): Promise<unknown>;
}

interface SentinelClient extends Common {
  readonly isReady: boolean;
  getSentinelNode(): SocketOptions | undefined;
  sendCommand(isReadonly: boolean, args: readonly string[], options: object): Promise<unknown>;
  subscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
  unsubscribe(channel: string, listener: (message: string) => void): Promise<unknown>;
}

export function isNodeRedisClient(entry: unknown): entry is NodeRedisClient {
  if (typeof entry !== "object" || entry === null) return false;
  const candidate = entry as Record<string, unknown>;
  const methods = ["sendCommand", "connect", "on"];
  return (
    typeof candidate["isOpen"] === "boolean" &&
    methods.every((method) => typeof candidate[method] === "function")
  );
}

export function kindOfClient(client: NodeRedisClient): NodeRedisKind {
  if ("nodeClient" in client) return new Cluster(client as unknown as ClusterClient);
  if ("getSentinelNode" in client) return new Sentinel(client as unknown as SentinelClient);
  return new Single(client as unknown as SingleClient);
}

abstract class Kind<C extends Common> {
  protected readonly client: C;

  constructor(client: C) {
    this.client = client;
  }

  get isOpen(): boolean {
    return this.client.isOpen;
  }

  connect(): Promise<unknown> {
    return this.client.connect();
  }

  on(event: string, listener: (error: Error) => void): void {
    this.client.on(event, (error: unknown) => {
      listener(asError(error));
    });
  }

  quit(): Promise<unknown> {
    const { client } = this;
    return Promise.resolve(client.close === undefined ? client.quit?.() : client.close());
  }

  disconnect(): void {
    disconnect(this.client);
  }
}

class Single extends Kind<SingleClient> implements NodeRedisKind {
  readonly isCluster = false;
  readonly emitsReady = true;
  readonly #options: object;

  constructor(client: SingleClient) {
    super(client);
    this.#options = hasCommandOptions(client) ? USUAL_REPLIES : NO_TIMEOUT;
  }

  get name(): string {
    return addressOf(this.client.options?.socket);
  }

  get keyspace(): string {
    return `${this.name}/${this.client.options?.database ?? 0} `;
  }

  get lacksSocketTimeout(): boolean {
    return this.client.options?.socket?.socketTimeout === undefined;
  }

  get isReady(): boolean {
    return this.client.isReady;
  }

  override connect(): Promise<unknown> {
    return dial(this.client);
  }

  send(line: readonly string[]): Promise<unknown> {
    return this.client.sendCommand(line, this.#options);
  }

  subscribe(channel: string, listener: ChannelListener): Subscription | undefined {
    const subscriber = this.client.duplicate?.();
    if (subscriber === undefined) return undefined;
    let isSubscribed = false;
    subscriber.on("error", () => {
      if (!subscriber.isReady) listener.onLoss();
    });
    subscriber.on("ready", () => {
      // After a loss, the client has already subscribed again.
      if (isSubscribed) listener.onOpen();
    });
    const subscribe = async (): Promise<void> => {
      await dial(subscriber);
      await subscriber.subscribe(channel, (message) => {
        listener.onMessage(message);
      });
      isSubscribed = true;
      listener.onOpen();
    };
    subscribe().catch((error: unknown) => {
      listener.onLoss(asError(error));
    });
    return {
      close: () => {
        disconnect(subscriber);
      },
    };
  }
}

/** Several servers: a lost connection to one of them is not seen. */
class Cluster extends Kind<ClusterClient> implements NodeRedisKind {
  readonly isCluster = true;
  readonly emitsReady = false;
  readonly lacksSocketTimeout = false;

  get name(): string {
    const [first] = this.client.masters;
    return first === undefined ? "cluster" : `cluster ${first.address}`;
  }

  get isReady(): boolean {
    const { isOpen, isReady, masters } = this.client;
    return isOpen && (isReady ?? masters.length > 0);
  }

  async send(line: readonly string[]): Promise<unknown> {
    const key = keyIn(line);
    if (key !== undefined) return this.client.sendCommand(key, false, line, USUAL_REPLIES);
    const [first] = this.client.masters;
    if (first === undefined) throw new Error("The Cluster has no known master.");
    return (await this.client.nodeClient(first)).sendCommand(line, USUAL_REPLIES);
  }

  /** PUBLISH does not return how many clients on other servers received the message. */
  subscribe(): undefined {
    return undefined;
  }
}

/** Returns the first key of a command of this library; undefined if it has none. */
function keyIn([command, first, second, third]: readonly string[]): string | undefined {
  if (command === "set") return first;
  if (command === "evalsha" || command === "eval") return second === "0" ? undefined : third;
  return undefined;
}

class Sentinel extends Kind<SentinelClient> implements NodeRedisKind {
  readonly isCluster = false;
  readonly emitsReady = false;
  readonly lacksSocketTimeout = false;
  #last: Promise<unknown> = Promise.resolve();
  #runId: string | undefined;
  #onReplaced = (): void => undefined;

  get name(): string {
    const node = this.client.getSentinelNode();
    return node === undefined ? "sentinel" : `sentinel ${addressOf(node)}`;
  }

  get isReady(): boolean {
    return this.client.isReady;
  }

  onReplaced(listener: () => void): void {
    this.#onReplaced = listener;
  }

  /** One command at a time: the client itself may send two in any order. */
  send(line: readonly string[]): Promise<unknown> {
    const reply = this.#last.then(() => this.#ask(line));
    this.#last = reply.catch(() => undefined);
    return reply;
  }

  /**
   * The client sends a command again itself after a loss or a failover, and tells of neither. So the server is asked behind
   * each command who it is, and the listener is called before the reply of a new one is passed on.
   */
  async #ask(line: readonly string[]): Promise<unknown> {
    const reply = await this.#send(line);
    const info = line[0] === "info" ? reply : await this.#send(["info", "server"]).catch(ifRefused);
    const [runId] = /^run_id:.*/m.exec(String(info)) ?? ["unknown"];
    if (this.#runId !== undefined && runId !== this.#runId) this.#onReplaced();
    this.#runId = runId;
    return reply;
  }

  #send(line: readonly string[]): Promise<unknown> {
    return this.client.sendCommand(false, line, USUAL_REPLIES);
  }

  /** The client follows the master with its subscriptions. */
  subscribe(channel: string, listener: ChannelListener): Subscription {
    const onMessage = (message: string): void => {
      listener.onMessage(message);
    };
    this.client.subscribe(channel, onMessage).then(
      () => {
        listener.onOpen();
      },
      (error: unknown) => {
        listener.onLoss(asError(error));
      },
    );
    return {
      close: () => {
        if (!this.client.isOpen) return;
        this.client.unsubscribe(channel, onMessage).catch(() => undefined);
      },
    };
  }
}

/** A server that refuses INFO cannot say that it is another one. */
function ifRefused(error: unknown): undefined {
  if (!isReply(error) || isPassing(error)) throw error;
}

/** Whether the client has options for its commands, but for a timeout. The client that it was made from may have, too. */
function hasCommandOptions(client: object): boolean {
  const { _commandOptions, _self } = client as {
    _commandOptions?: object;
    _self?: { _commandOptions?: object };
  };
  for (const options of [_commandOptions, _self?._commandOptions]) {
    // Version 5 inherits them from one object to the next.
    for (const name in options) if (name !== "timeout") return true;
  }
  return false;
}

/** The clients whose socket is yet to open. If one is ended meanwhile, node-redis still opens it, and never closes it. */
const dialing = new WeakSet<Common>();
const ended = new WeakSet<Common>();

function dial(client: Common): Promise<unknown> {
  dialing.add(client);
  client.on("reconnecting", () => dialing.add(client));
  for (const event of ["connect", "error"]) {
    client.on(event, () => {
      dialing.delete(client);
      if (!ended.delete(client)) return;
      // Version 4 uses its socket once more after the event.
      void Promise.resolve(client).then(disconnect);
    });
  }
  return client.connect().finally(() => {
    dialing.delete(client);
    ended.delete(client);
  });
}

function disconnect(client: Common): void {
  if (!client.isOpen) return;
  if (dialing.has(client)) {
    ended.add(client);
    return;
  }
  if (client.destroy !== undefined) client.destroy();
  else void client.disconnect?.();
}

/** node-redis connects to `localhost` where no host is named. */
function addressOf({ path, host = "localhost", port = 6379 }: SocketOptions = {}): string {
  return path ?? `${host}:${port}`;
}
