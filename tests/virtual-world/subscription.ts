import type { ChannelListener, Subscription } from "../../src/clients/connection.js";
import type { Host } from "./host.js";
import type { SimulatedNode } from "./node.js";
import type { World } from "./world.js";

/** What a subscription's connection goes by: it is another one than the commands', on the same way. */
export interface Way {
  /** Ms of one message, anew each time. */
  delayMs(): number;
  /** Whether nothing comes through at present. */
  isCut(): boolean;
  /** Whether this message is lost, as all that a broken connection carried. */
  losesMessage(): boolean;
}

const RECONNECT_MS = 50;

/** A client's subscription to a channel of one node; it is made again after each loss. */
export class SimulatedSubscription implements Subscription {
  readonly #world: World;
  readonly #host: Host;
  readonly #node: SimulatedNode;
  readonly #way: Way;
  readonly #channel: string;
  readonly #listener: ChannelListener;
  #isClosed = false;
  #isForgotten = false;
  #lastMs = 0;

  constructor(
    world: World,
    host: Host,
    node: SimulatedNode,
    way: Way,
    channel: string,
    listener: ChannelListener,
  ) {
    this.#world = world;
    this.#host = host;
    this.#node = node;
    this.#way = way;
    this.#channel = channel;
    this.#listener = listener;
    this.#connect();
  }

  close(): void {
    this.#isClosed = true;
    this.#listeners().delete(this.#hear);
  }

  #connect(): void {
    this.#world.after(3 * this.#way.delayMs(), () => {
      if (this.#isClosed || this.#host.dead) return;
      if (this.#node.down || this.#node.paused || this.#way.isCut()) {
        this.#world.after(RECONNECT_MS, () => {
          this.#connect();
        });
        return;
      }
      this.#listeners().add(this.#hear);
      this.#tell(() => {
        this.#listener.onOpen();
      });
    });
  }

  #listeners(): Set<(message: string) => void> {
    let listeners = this.#node.listeners.get(this.#channel);
    if (listeners === undefined) this.#node.listeners.set(this.#channel, (listeners = new Set()));
    return listeners;
  }

  readonly #hear = (message: string): void => {
    if (this.#isForgotten || this.#way.losesMessage()) return;
    this.#tell(() => {
      this.#listener.onMessage(message);
    });
  };

  /** The connection dies, and neither side is told. */
  forget(): void {
    this.#isForgotten = true;
  }

  /** The connection broke. */
  break(): void {
    if (this.#isClosed) return;
    this.#isForgotten = false;
    this.#listeners().delete(this.#hear);
    this.#tell(() => {
      this.#listener.onLoss();
    });
    this.#connect();
  }

  /** In the order in which it was sent; what is on its way when the node crashes arrives. */
  #tell(what: () => void): void {
    this.#lastMs = Math.max(this.#lastMs, this.#world.nowMs + this.#way.delayMs());
    const arrive = (): void => {
      if (this.#isClosed) return;
      if (this.#way.isCut()) {
        this.#world.after(RECONNECT_MS, arrive, this.#host);
        return;
      }
      what();
    };
    this.#world.at(this.#lastMs, arrive, this.#host);
  }
}
