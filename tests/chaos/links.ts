// One TCP proxy between each client process and each server, so that a connection can fail for one
// client and not for another.

import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What is wrong with a link; all at rest: nothing. */
export interface LinkFault {
  /** Connections are reset, and new ones, too. */
  readonly cut: boolean;
  /** Nothing arrives at the server, until the fault is over. */
  readonly requestsHeld: boolean;
  /** Nothing arrives at the client, until the fault is over. */
  readonly repliesHeld: boolean;
  readonly delayMs: number;
}

export const NO_FAULT: LinkFault = {
  cut: false,
  requestsHeld: false,
  repliesHeld: false,
  delayMs: 0,
};

interface Parcel {
  /** Undefined where the sender has closed. */
  readonly data: Buffer | undefined;
  readonly dueMs: number;
}

/** One direction of one connection: what is sent arrives in order, late or not at all while it is held. */
class Stream {
  readonly #to: net.Socket;
  readonly #fault: () => { held: boolean; delayMs: number };
  #parcels: Parcel[] = [];
  #waiting = false;

  constructor(
    from: net.Socket,
    to: net.Socket,
    fault: () => { readonly held: boolean; readonly delayMs: number },
  ) {
    this.#to = to;
    this.#fault = fault;
    from.on("data", (data) => {
      this.#take(data);
    });
    from.on("close", () => {
      this.#take(undefined);
    });
  }

  deliver(): void {
    for (;;) {
      const [next] = this.#parcels;
      if (next === undefined || this.#fault().held || this.#waiting) return;
      const waitMs = next.dueMs - performance.now();
      if (waitMs > 0) {
        this.#waiting = true;
        void sleep(waitMs, undefined, { ref: false }).then(() => {
          this.#waiting = false;
          this.deliver();
        });
        return;
      }
      this.#parcels.shift();
      if (next.data === undefined) this.#to.destroy();
      else if (this.#to.writable) this.#to.write(next.data);
    }
  }

  #take(data: Buffer | undefined): void {
    this.#parcels.push({ data, dueMs: performance.now() + this.#fault().delayMs });
    this.deliver();
  }
}

export class Link {
  readonly #serverPort: number;
  readonly #sockets = new Set<net.Socket>();
  readonly #streams = new Set<Stream>();
  readonly #listener: net.Server;
  #fault = NO_FAULT;

  private constructor(serverPort: number) {
    this.#serverPort = serverPort;
    this.#listener = net.createServer((client) => {
      this.#connect(client);
    });
  }

  static async open(serverPort: number): Promise<Link> {
    const link = new Link(serverPort);
    await new Promise<void>((done) => link.#listener.listen(0, "127.0.0.1", done));
    return link;
  }

  get url(): string {
    const address = this.#listener.address();
    if (address === null || typeof address === "string") throw new Error("the proxy has no port");
    return `redis://127.0.0.1:${address.port}`;
  }

  set fault(fault: LinkFault) {
    this.#fault = fault;
    if (fault.cut) this.#reset();
    for (const stream of this.#streams) stream.deliver();
  }

  async close(): Promise<void> {
    this.#reset();
    await new Promise((done) => this.#listener.close(done));
  }

  #reset(): void {
    for (const socket of this.#sockets) {
      // Node 20 never closes a socket that is reset while it is shutting down.
      if (socket.writableEnded) socket.destroy();
      else socket.resetAndDestroy();
    }
  }

  #connect(client: net.Socket): void {
    if (this.#fault.cut) {
      client.on("error", () => undefined).resetAndDestroy();
      return;
    }
    const server = net.connect(this.#serverPort, "127.0.0.1");
    for (const socket of [client, server]) this.#track(socket);
    const requests = new Stream(client, server, () => ({
      held: this.#fault.requestsHeld,
      delayMs: this.#fault.delayMs,
    }));
    const replies = new Stream(server, client, () => ({
      held: this.#fault.repliesHeld,
      delayMs: this.#fault.delayMs,
    }));
    for (const stream of [requests, replies]) {
      this.#streams.add(stream);
      // What the client has sent still arrives after it closed, until the server's side has ended.
      server.once("close", () => {
        if (client.destroyed) this.#streams.delete(stream);
      });
      client.once("close", () => {
        if (server.destroyed) this.#streams.delete(stream);
      });
    }
  }

  #track(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => undefined);
    socket.on("close", () => this.#sockets.delete(socket));
  }
}
