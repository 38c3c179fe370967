import { EventEmitter } from "node:events";
import { fromServer, toServer } from "./encoding.js";
import type { Reply } from "./redis/reply.js";
import type { MemoryServer, Peer } from "./server.js";
import { Wire } from "./wire.js";

/** A connection from when it opens until it is lost or closed. */
interface Link {
  readonly incarnation: number;
  readonly requests: Wire;
  readonly replies: Wire;
  /** Rejects the commands without a reply. */
  readonly unanswered: Set<(error: Error) => void>;
}

/**
 * A connection to a node in memory. It has the methods and events of an ioredis client that `Redlock` uses, so that a
 * `Redlock` takes it as a node.
 */
export class MemoryClient {
  /** Names the node in error messages and reports: `host:port`. */
  readonly options: {
    /** The name of its group. */
    readonly host: string;
    /** Its number in the group. */
    readonly port: number;
    /** Has no effect: a connection in memory cannot die silently. */
    readonly socketTimeout: number;
  };
  readonly #server: MemoryServer;
  readonly #events = new EventEmitter();
  #status: "connecting" | "ready" | "reconnecting" | "end" = "connecting";
  #link: Link | undefined;

  /** @internal */
  constructor(server: MemoryServer, options: MemoryClient["options"]) {
    this.#server = server;
    this.options = options;
    this.#events.setMaxListeners(0);
  }

  /** The state of the connection, in ioredis' words. */
  get status(): string {
    return this.#status;
  }

  /** Sends one command and resolves with the reply. Rejects with an error named `ReplyError` if the reply is an error. */
  async call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown> {
    const name = command.toLowerCase();
    const words = args.map(toServer);
    const reply = await this.#ask(() => this.#server.execute(name, words));
    return fromServer(reply);
  }

  /** Receives the messages of a channel from now on, as events named `message`. */
  async subscribe(channel: string): Promise<unknown> {
    const name = toServer(channel);
    return this.#ask(() => {
      this.#server.subscribe(name, this.#peer);
      return 1;
    });
  }

  /** Resolves when the connection is ready. Opens one that has ended again. */
  async connect(): Promise<void> {
    if (this.#status === "end") this.open();
    if (this.status === "ready") return;
    if (this.status === "reconnecting") throw closed();
    await new Promise<void>((resolve, reject) => {
      const onReady = (): void => {
        this.#events.off("close", onClose);
        resolve();
      };
      const onClose = (): void => {
        this.#events.off("ready", onReady);
        reject(closed());
      };
      this.#events.once("ready", onReady);
      this.#events.once("close", onClose);
    });
  }

  /** Ends the connection after the replies to the commands sent before. */
  async quit(): Promise<"OK"> {
    await this.#ask(() => "OK");
    this.disconnect();
    return "OK";
  }

  /** Ends the connection at once. Commands without a reply reject. */
  disconnect(): void {
    if (this.#status === "end") return;
    this.#server.disconnect(this.#peer);
    this.#status = "end";
    this.#drop();
    this.#events.emit("close");
    this.#events.emit("end");
  }

  /** Calls the listener when the connection is ready, is closed, or has ended for good. */
  on(event: "ready" | "close" | "end", listener: () => void): this;
  /** Calls the listener with each connection error. */
  on(event: "error", listener: (error: Error) => void): this;
  /** Calls the listener with each message of a channel. */
  on(event: "message", listener: (channel: string, message: string) => void): this;
  on(event: string, listener: (...args: never[]) => void): this {
    this.#events.on(event, listener as (...args: unknown[]) => void);
    return this;
  }

  /** Opens another connection to the same node, as another process would have it. */
  duplicate(): MemoryClient {
    const client = new MemoryClient(this.#server, this.options);
    // The caller has yet to add its listeners.
    void Promise.resolve().then(() => {
      if (client.#status !== "end") client.open();
    });
    return client;
  }

  /** @internal */
  protected open(): void {
    this.#status = "connecting";
    this.#server.connect(this.#peer);
  }

  /** Drops the commands without a reply, and opens the connection again. @internal */
  protected reopen(): void {
    if (this.#status === "reconnecting") return;
    this.#server.disconnect(this.#peer);
    this.#drop();
    this.open();
  }

  readonly #peer: Peer = {
    onAccepted: () => {
      this.#link = {
        incarnation: this.#server.incarnation,
        requests: new Wire(),
        replies: new Wire(),
        unanswered: new Set(),
      };
      this.#status = "ready";
      this.#events.emit("ready");
    },
    onLost: () => {
      this.#status = "reconnecting";
      this.#drop();
      this.#events.emit("close");
      if (this.#events.listenerCount("error") > 0) this.#events.emit("error", this.#refusal());
    },
    onMessage: (channel, message) => {
      this.#link?.replies.send(this.#server.delayMs / 2, () => {
        // Not in the middle of the PUBLISH of another client of this process.
        void Promise.resolve().then(() => {
          if (this.#link === undefined) return;
          this.#events.emit("message", fromServer(channel), fromServer(message));
        });
      });
    },
  };

  async #ask(execute: () => Reply): Promise<Reply> {
    if (this.#status === "connecting") await this.connect();
    const link = this.#link;
    if (link === undefined) throw closed();
    return new Promise((resolve, reject) => {
      link.unanswered.add(reject);
      const answer = (settle: () => void): void => {
        link.replies.send(this.#server.delayMs / 2, () => {
          link.unanswered.delete(reject);
          settle();
        });
      };
      const run = (): void => {
        try {
          const reply = execute();
          answer(() => {
            resolve(reply);
          });
        } catch (error) {
          answer(() => {
            reject(error instanceof Error ? error : new Error(String(error)));
          });
        }
      };
      link.requests.send(this.#server.delayMs / 2, () => {
        // The server reads what was sent before the client closed the connection.
        this.#server.receive(link.incarnation, run);
      });
    });
  }

  #drop(): void {
    const link = this.#link;
    this.#link = undefined;
    for (const reject of link?.unanswered ?? []) reject(closed());
  }

  #refusal(): Error {
    const { host, port } = this.options;
    const error = new Error(`connect ECONNREFUSED ${host}:${port}`);
    return Object.assign(error, { code: "ECONNREFUSED" });
  }
}

function closed(): Error {
  return new Error("Connection is closed.");
}
