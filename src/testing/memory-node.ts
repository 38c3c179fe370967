import { MemoryClient } from "./memory-client.js";
import type { MemoryServer } from "./server.js";
import { toServer } from "./encoding.js";
import { nextTurn } from "./wire.js";

/**
 * A Redis server in this process, for unit tests. `new Redlock(…)` takes it as a node. Its methods do to the server what
 * happens to real ones.
 *
 * `redlock.quit()` leaves it open, so that several tests can use the same nodes.
 *
 * @example
 * ```ts
 * const nodes = memoryNodes(3);
 * const redlock = new Redlock(nodes);
 * nodes[0].freeze();
 * await redlock.using("invoice:7", 5000, work); // two of three nodes are enough
 * ```
 */
export class MemoryNode extends MemoryClient {
  readonly #server: MemoryServer;

  /** @internal */
  constructor(server: MemoryServer, options: MemoryClient["options"]) {
    super(server, options);
    this.#server = server;
    this.open();
  }

  /**
   * Stops the server without closing its connections, as SIGSTOP does: commands arrive, and nothing replies until
   * `thaw()`.
   *
   * @throws Error if the server was killed
   */
  freeze(): void {
    if (this.#server.isDown) {
      const { host, port } = this.options;
      throw new Error(
        `freeze: ${host}:${port} was killed, so nothing can be frozen. Call restart() before.`,
      );
    }
    this.#server.freeze();
  }

  /**
   * Lets a frozen server go on. It first executes the commands that have arrived meanwhile.
   *
   * @returns a promise that resolves, without a timer, when their replies have arrived: before, the library still takes
   *   the node for a silent one
   */
  async thaw(): Promise<void> {
    this.#server.thaw();
    await nextTurn();
  }

  /** Kills the server: its connections break, and new ones are refused until `restart()`. Its data is on the disk. */
  kill(): void {
    this.#server.kill();
  }

  /**
   * Starts the server again, and kills it before if it runs. The clients reconnect at once. The server has another run
   * id, so that the restart guard holds it back: its votes for acquisitions do not count until the longest ttl in use
   * has passed.
   *
   * @param options with `empty`, the server has lost its data
   */
  restart({ empty = false }: { readonly empty?: boolean } = {}): void {
    this.#server.kill();
    this.#server.start(!empty);
  }

  /**
   * Deletes the key of a resource on this server alone, as an eviction or an operator would.
   *
   * @param resource its name; with the `keyPrefix` of the `Redlock`, if there is one
   * @returns whether the server had the key
   */
  forget(resource: string): boolean {
    return this.#server.execute("del", [toServer(resource)]) === 1;
  }

  /**
   * Makes each round trip to the server take `ms`, from the next command on. It takes timers of the test: under fake
   * timers, let the time pass.
   *
   * @param ms 0 for none, as at first
   * @throws RangeError if it is no number of ms
   */
  delay(ms: number): void {
    if (!Number.isFinite(ms) || ms < 0) {
      throw new RangeError(
        `delay: ms is ${ms}, but must be a finite number of at least 0. Pass milliseconds.`,
      );
    }
    this.#server.delayMs = ms;
  }

  /** Waits for the replies to the commands sent before. The node stays open, for the next `Redlock`. */
  override async quit(): Promise<"OK"> {
    await this.call("quit");
    return "OK";
  }

  /** Drops the commands without a reply. The node stays open, for the next `Redlock`. */
  override disconnect(): void {
    this.reopen();
  }
}
