import { isReply, type Connection } from "../clients/connection.js";
import type { Environment } from "../runtime/environment.js";

/** After this much silence the library replaces a connection that it made. */
const LONGEST_SILENCE_MS = 5000;

/**
 * Knows whether a node is silent: an operation timed out, and the node has not replied since on the same connection.
 * While it is silent, one PING stays in flight, whose reply shows that the node is back.
 */
export class Silence {
  readonly #connection: Connection;
  readonly #environment: Environment;
  readonly #onReply: (epoch: number) => void;
  readonly #onLoss: () => void;
  #current: { readonly epoch: number; sinceMs: number } | undefined;
  #isProbing = false;

  /**
   * @param onReply called when the node replies to a PING, with the epoch in which it was sent
   * @param onLoss called when the connection of a PING is lost
   */
  constructor(
    connection: Connection,
    environment: Environment,
    onReply: (epoch: number) => void,
    onLoss: () => void,
  ) {
    this.#connection = connection;
    this.#environment = environment;
    this.#onReply = onReply;
    this.#onLoss = onLoss;
  }

  /** Whether an operation timed out and nothing was heard since. */
  get isOn(): boolean {
    return this.#current !== undefined;
  }

  /** Called when an operation has timed out. */
  begin(): void {
    const { epoch } = this.#connection;
    if (this.#current?.epoch === epoch) return;
    this.#current = { epoch, sinceMs: this.#environment.monotonicMs() };
    this.#probe();
  }

  /** Called when the node has replied. */
  end(): void {
    this.#current = undefined;
  }

  /** Returns how long the node has been silent, in ms; undefined if it is not. Sends the next PING, or reconnects. */
  check(): number | undefined {
    const current = this.#current;
    if (current === undefined) return undefined;
    if (current.epoch !== this.#connection.epoch) {
      this.#current = undefined;
      return undefined;
    }
    const silentMs = this.#environment.monotonicMs() - current.sinceMs;
    if (silentMs > LONGEST_SILENCE_MS && this.#connection.renew !== undefined) {
      current.sinceMs = this.#environment.monotonicMs();
      this.#connection.renew();
    } else {
      this.#probe();
    }
    return silentMs;
  }

  #probe(): void {
    if (this.#isProbing || this.#connection.state !== "ready") return;
    this.#isProbing = true;
    const { epoch } = this.#connection;
    this.#connection.send("ping", []).then(
      () => {
        this.#isProbing = false;
        this.#onReply(epoch);
      },
      (error: unknown) => {
        this.#isProbing = false;
        if (isReply(error)) this.#onReply(epoch);
        else this.#onLoss();
      },
    );
  }
}
