import type { Connection } from "../clients/connection.js";
import type { NodeError } from "../errors.js";
import type { Environment } from "../runtime/environment.js";

/** Learns when a node is found down, and when it can be asked again. */
export interface NodeListener {
  onNodeDown(node: string, reason: NodeError): void;
  onNodeUp(node: string, downMs: number): void;
}

/** Tells once that a node cannot be asked, and once that it can be asked again. */
export class Outage {
  readonly #connection: Connection;
  readonly #environment: Environment;
  readonly #listener: NodeListener | undefined;
  /** Since when the node cannot be asked, as far as the library has noticed. */
  #sinceMs: number | undefined;
  #isClosed = false;

  constructor(
    connection: Connection,
    environment: Environment,
    listener: NodeListener | undefined,
  ) {
    this.#connection = connection;
    this.#environment = environment;
    this.#listener = listener;
  }

  /** Called whenever the node is found down. */
  begin(reason: NodeError): void {
    if (this.#sinceMs !== undefined || this.#isClosed) return;
    this.#sinceMs = this.#environment.monotonicMs();
    this.#listener?.onNodeDown(this.#connection.name, reason);
    if (this.#connection.state === "down") this.#awaitReturn();
  }

  /** Called whenever the node has replied. */
  end(): void {
    if (this.#sinceMs === undefined) return;
    const downMs = this.#environment.monotonicMs() - this.#sinceMs;
    this.#sinceMs = undefined;
    if (!this.#isClosed) this.#listener?.onNodeUp(this.#connection.name, downMs);
  }

  /** Called when the connection of a silent node is lost: now its return can be awaited. */
  lost(): void {
    if (this.#sinceMs !== undefined && this.#connection.state === "down") this.#awaitReturn();
  }

  close(): void {
    this.#isClosed = true;
  }

  #awaitReturn(): void {
    this.#connection.opened().then(
      () => {
        this.end();
      },
      () => {
        if (!this.#isClosed && this.#sinceMs !== undefined) this.#awaitReturn();
      },
    );
  }
}
