import pTimeout from "p-timeout";
import { type Environment, pTimeoutTimers, type Timer } from "../environment.js";
import type { Subscription } from "../node/connection.js";
import type { Node } from "../node/node.js";
import { quorumOf } from "../quorum.js";
import { CHANNEL_PREFIX } from "./line-keys.js";

/** Subscriptions are kept for so long after the last waiter. */
const IDLE_MS = 5000;

/**
 * Hears from the nodes who is next in line: one channel for all waiters of a Redlock, and one
 * subscription a node, opened for the first waiter.
 */
export class WakeUps {
  readonly #nodes: readonly Node[];
  readonly #environment: Environment;
  readonly #report: (error: Error, node: Node) => void;
  #channel: string | undefined;
  readonly #subscriptions = new Map<Node, Subscription>();
  readonly #open = new Set<Node>();
  /** Those that cannot be heard. */
  readonly #mute = new Set<Node>();
  readonly #reported = new Set<Node>();
  readonly #waiters = new Map<string, (node: Node) => void>();
  #onChange: (() => void)[] = [];
  #idle: Timer | undefined;
  /** Nobody waits for further subscriptions before it stands in line. */
  #isGivenUp = false;
  #closed = false;
  #idCount = 0;

  constructor(
    nodes: readonly Node[],
    environment: Environment,
    report: (error: Error, node: Node) => void,
  ) {
    this.#nodes = nodes;
    this.#environment = environment;
    this.#report = report;
  }

  /** For a waiter's ticket. */
  newId(): string {
    this.#idCount += 1;
    return `${this.#name}.${this.#idCount}`;
  }

  /** The channel's, of this Redlock alone. */
  get #name(): string {
    this.#channel ??= `${CHANNEL_PREFIX}${this.#environment.randomValue()}`;
    return this.#channel;
  }

  /** From now on, `onWakeUp` is told by which node the waiter of this id is called. */
  listenFor(id: string, onWakeUp: (node: Node) => void): void {
    this.#waiters.set(id, onWakeUp);
    if (this.#idle !== undefined) this.#environment.clearTimer(this.#idle);
    this.#idle = undefined;
    if (this.#closed) return;
    for (const node of this.#nodes) {
      if (!this.#subscriptions.has(node) && !this.#mute.has(node)) this.#subscribe(node);
    }
  }

  forget(id: string): void {
    this.#waiters.delete(id);
    if (this.#waiters.size > 0 || this.#subscriptions.size === 0) return;
    this.#idle ??= this.#environment.setBackgroundTimer(this.#closeAll, IDLE_MS);
  }

  /** Whether a quorum can call. */
  get isHeard(): boolean {
    return this.#open.size >= quorumOf(this.#nodes.length);
  }

  /** Whether a waiter may stand in line without waiting for subscriptions. */
  get isReady(): boolean {
    const isAll = this.#open.size + this.#mute.size >= this.#nodes.length;
    return this.isHeard || isAll || this.#isGivenUp || this.#closed;
  }

  /** Resolves once a quorum is heard, or no more will be, or it has waited for long enough, once for all. */
  async ready(mostMs: number): Promise<void> {
    await pTimeout(this.#untilReady(), {
      milliseconds: mostMs,
      fallback: () => {
        this.#isGivenUp = true;
        this.#changed();
      },
      customTimers: pTimeoutTimers(this.#environment),
    });
  }

  async #untilReady(): Promise<void> {
    while (!this.isReady) {
      await new Promise<void>((resolve) => {
        this.#onChange.push(resolve);
      });
    }
  }

  /** The channel by which a waiter can be called on this node; empty where it has to poll. */
  channelOn(node: Node): string {
    return this.#open.has(node) ? this.#name : "";
  }

  close(): void {
    this.#closed = true;
    this.#closeAll();
  }

  readonly #closeAll = (): void => {
    if (this.#idle !== undefined) this.#environment.clearTimer(this.#idle);
    this.#idle = undefined;
    for (const subscription of this.#subscriptions.values()) subscription.close();
    this.#subscriptions.clear();
    this.#open.clear();
    this.#mute.clear();
    this.#isGivenUp = false;
    this.#changed();
  };

  #subscribe(node: Node): void {
    const isOurs = (): boolean => this.#subscriptions.get(node) === subscription;
    const subscription = node.subscribe(this.#name, {
      onOpen: () => {
        if (!isOurs()) return;
        this.#open.add(node);
        this.#changed();
      },
      onLoss: (error) => {
        if (!isOurs()) return;
        this.#open.delete(node);
        if (error !== undefined) this.#isMute(node, error);
      },
      onMessage: (id) => {
        this.#waiters.get(id)?.(node);
      },
    });
    if (subscription === undefined) this.#isMute(node);
    else this.#subscriptions.set(node, subscription);
  }

  #isMute(node: Node, cause?: Error): void {
    this.#subscriptions.get(node)?.close();
    this.#subscriptions.delete(node);
    this.#mute.add(node);
    this.#changed();
    if (this.#reported.has(node)) return;
    this.#reported.add(node);
    const why = cause === undefined ? "its client cannot subscribe" : cause.message;
    this.#report(
      new Error(
        `Nobody who waits for a lock is woken by ${node.name}: ${why}. They poll instead. ` +
          "Give the client the right to SUBSCRIBE and PUBLISH, or set `queue: false`.",
        cause && { cause },
      ),
      node,
    );
  }

  #changed(): void {
    const watchers = this.#onChange;
    this.#onChange = [];
    for (const watch of watchers) watch();
  }
}
