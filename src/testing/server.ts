import { randomBytes } from "node:crypto";
import type { ServerClock } from "./clock.js";
import { RedisModel } from "./redis/model.js";
import type { Reply } from "./redis/reply.js";

/** A server that has run for a day: the restart guard holds back younger ones. */
const AGE_MS = 24 * 60 * 60 * 1000;

/** What the server knows of a connection. */
export interface Peer {
  /** The server accepts the connection. */
  onAccepted(): void;
  /** The server has died, or refuses the connection because it is down. */
  onLost(): void;
  onMessage(channel: string, message: string): void;
}

/** The process of one Redis server, with what can happen to a process. */
export class MemoryServer {
  /** Ms of a round trip. */
  delayMs = 0;
  /** Counts the starts. What was sent to an earlier process does not reach a later one. */
  incarnation = 1;
  readonly #redis = new RedisModel(randomBytes(16).toString("hex"));
  readonly #clock: ServerClock;
  readonly #peers = new Set<Peer>();
  readonly #subscribers = new Map<string, Set<Peer>>();
  #state: "running" | "frozen" | "down" = "running";
  /** What arrived while the process was frozen. */
  #inbox: (() => void)[] = [];

  constructor(clock: ServerClock) {
    this.#clock = clock;
    this.#redis.restart(false, clock.nowMs() - AGE_MS);
    this.#redis.onPublish = (channel, message) => {
      const subscribers = this.#subscribers.get(channel) ?? [];
      for (const subscriber of subscribers) subscriber.onMessage(channel, message);
      return this.#subscribers.get(channel)?.size ?? 0;
    };
  }

  get isDown(): boolean {
    return this.#state === "down";
  }

  /** Connects now, or when the process goes on; if it is down, as soon as it runs again. */
  connect(peer: Peer): void {
    this.#peers.add(peer);
    if (this.isDown) peer.onLost();
    else this.#accept(peer);
  }

  disconnect(peer: Peer): void {
    this.#peers.delete(peer);
    for (const [channel, subscribers] of this.#subscribers) {
      if (subscribers.delete(peer) && subscribers.size === 0) this.#subscribers.delete(channel);
    }
  }

  /** Reads what has arrived for a process of this incarnation, now or when the process goes on. */
  receive(incarnation: number, read: () => void): void {
    if (incarnation !== this.incarnation || this.isDown) return;
    if (this.#state === "frozen") this.#inbox.push(read);
    else read();
  }

  /** Throws a ReplyError if the server replies with an error. */
  execute(command: string, args: readonly string[]): Reply {
    return this.#redis.execute(command, args, this.#clock.nowMs());
  }

  subscribe(channel: string, peer: Peer): void {
    let subscribers = this.#subscribers.get(channel);
    if (subscribers === undefined) this.#subscribers.set(channel, (subscribers = new Set()));
    subscribers.add(peer);
  }

  /** As SIGSTOP does. */
  freeze(): void {
    this.#state = "frozen";
  }

  /** As SIGCONT does: the process reads what has arrived meanwhile. */
  thaw(): void {
    if (this.#state !== "frozen") return;
    this.#state = "running";
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const read of inbox) read();
  }

  /** As SIGKILL does. */
  kill(): void {
    if (this.isDown) return;
    this.#state = "down";
    this.#inbox = [];
    this.#subscribers.clear();
    for (const peer of [...this.#peers]) peer.onLost();
  }

  start(withData: boolean): void {
    this.#state = "running";
    this.incarnation += 1;
    this.#redis.restart(withData, this.#clock.nowMs());
    for (const peer of [...this.#peers]) this.#accept(peer);
  }

  #accept(peer: Peer): void {
    this.receive(this.incarnation, () => {
      if (this.#peers.has(peer)) peer.onAccepted();
    });
  }
}
