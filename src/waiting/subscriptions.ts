import pTimeout from "p-timeout";
import { type Environment, pTimeoutTimers, type Timer } from "../runtime/environment.js";
import { withoutCommand } from "../errors.js";
import { isPassing, isReply, type Subscription } from "../clients/connection.js";
import type { Node } from "../nodes/node.js";
import { quorumOf } from "../quorum/round.js";
import { CHANNEL_PREFIX } from "./queue-keys.js";

/** Subscriptions are closed this long after the last waiter has left. */
const IDLE_MS = 5000;
/** The interval between two probes of a subscription. */
const PROBE_MS = 1000;
/** A subscription is dead if a published probe has not arrived after this time. */
const PROBE_TIMEOUT_MS = 500;
/** A subscription that the node has not confirmed after this time is replaced. */
const UNCONFIRMED_MS = 5000;
/** A node that refused SUBSCRIBE or PUBLISH is asked again after this time. */
const REFUSAL_RETRY_MS = 60_000;
/** The message that a client publishes to itself. No waiter has this id. */
const PROBE = "";

/** What a waiter learns from the subscriptions. */
export interface QueueListener {
  /** The node notifies this waiter that it is next; of a permit, with the key of the slot. */
  onNotified(node: Node, key: string | undefined): void;
  /** This node can notify waiters from now on. */
  onSubscribed(node: Node): void;
  /** No quorum of nodes can notify waiters any more. */
  onQuorumLost(): void;
}

/** A subscription to one node. */
interface Open {
  readonly kind: "open";
  subscription: Subscription | undefined;
  /** Whether a message has arrived on it. */
  isProven: boolean;
  /** Since when it waits for the node's confirmation; undefined once confirmed. */
  unconfirmedMs: number | undefined;
  /** The probe under way, with the time at which the node confirmed that it published it. */
  probe: { publishedMs?: number } | undefined;
}

/** The node refuses subscriptions, or its client cannot subscribe. */
interface Refused {
  readonly kind: "refused";
  readonly sinceMs: number;
}

/**
 * Receives the nodes' notifications to waiters. All waiters of a Redlock share one channel, with one subscription
 * per node, opened for the first waiter.
 *
 * A connection can die silently, and a node may let a client subscribe but not publish. So the client publishes probes
 * to itself: a node can notify waiters once a message has arrived from it, and as long as the probes do.
 */
export class Subscriptions {
  readonly #nodes: readonly Node[];
  readonly #environment: Environment;
  readonly #report: (error: Error, node: Node) => void;
  #channel: string | undefined;
  readonly #states = new Map<Node, Open | Refused>();
  readonly #reported = new Set<Node>();
  readonly #waiters = new Map<string, QueueListener>();
  #onChange: (() => void)[] = [];
  #idle: Timer | undefined;
  #probing: Timer | undefined;
  /** A waiter has waited long enough for subscriptions. The next ones join the queue without waiting. */
  #hasWaitedEnough = false;
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

  /** Returns a new id for a waiter's ticket. */
  newId(): string {
    this.#idCount += 1;
    return `${this.#name}.${this.#idCount}`;
  }

  /** The name of the channel, which belongs to this Redlock alone. */
  get #name(): string {
    this.#channel ??= `${CHANNEL_PREFIX}${this.#environment.randomValue()}`;
    return this.#channel;
  }

  /** Notifies the waiter with this id from now on. */
  listenFor(id: string, listener: QueueListener): void {
    this.#waiters.set(id, listener);
    if (this.#idle !== undefined) this.#environment.clearTimer(this.#idle);
    this.#idle = undefined;
    if (this.#closed) return;
    for (const node of this.#nodes) {
      if (!this.#states.has(node)) this.#subscribe(node);
    }
    if (this.#probing === undefined) this.#probeLater();
  }

  forget(id: string): void {
    this.#waiters.delete(id);
    if (this.#waiters.size > 0 || this.#closed) return;
    this.#idle ??= this.#environment.setBackgroundTimer(this.#closeAll, IDLE_MS);
  }

  /** Whether a quorum of nodes can notify waiters. */
  get canNotify(): boolean {
    return this.#count(canNotify) >= quorumOf(this.#nodes.length);
  }

  /** Whether a waiter may join the queue without waiting for more subscriptions. */
  get isReady(): boolean {
    const isSettled = (state: Open | Refused): boolean =>
      state.kind === "refused" || canNotify(state);
    const isAll = this.#count(isSettled) >= this.#nodes.length;
    return this.canNotify || isAll || this.#hasWaitedEnough || this.#closed;
  }

  #count(has: (state: Open | Refused) => boolean): number {
    let count = 0;
    for (const state of this.#states.values()) if (has(state)) count += 1;
    return count;
  }

  /** Resolves once a quorum can notify, every node has refused, or `mostMs` have passed, which then counts for all waiters. */
  async ready(mostMs: number): Promise<void> {
    await pTimeout(this.#untilReady(), {
      milliseconds: mostMs,
      fallback: () => {
        this.#hasWaitedEnough = true;
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

  /** Returns the channel on which this node can notify a waiter; empty if the waiter has to poll. */
  channelOn(node: Node): string {
    const state = this.#states.get(node);
    return state !== undefined && canNotify(state) ? this.#name : "";
  }

  close(): void {
    this.#closed = true;
    this.#closeAll();
  }

  readonly #closeAll = (): void => {
    for (const timer of [this.#idle, this.#probing]) {
      if (timer !== undefined) this.#environment.clearTimer(timer);
    }
    this.#idle = undefined;
    this.#probing = undefined;
    for (const state of this.#states.values()) {
      if (state.kind === "open") state.subscription?.close();
    }
    this.#states.clear();
    this.#hasWaitedEnough = false;
    this.#changed();
  };

  #subscribe(node: Node): void {
    const unconfirmedMs = this.#environment.monotonicMs();
    const open: Open = {
      kind: "open",
      subscription: undefined,
      isProven: false,
      unconfirmedMs,
      probe: undefined,
    };
    this.#states.set(node, open);
    const isOurs = (): boolean => this.#states.get(node) === open;
    try {
      open.subscription = node.subscribe(this.#name, {
        onOpen: () => {
          if (!isOurs()) return;
          open.unconfirmedMs = undefined;
          this.#probe(node, open);
        },
        onLoss: (error) => {
          if (!isOurs()) return;
          if (isRefusal(error)) this.#refused(node, error);
          else this.#lost(open);
        },
        onMessage: (message) => {
          if (isOurs()) this.#heard(node, open);
          // A key may have spaces, too.
          const [, id = "", key] = /^(\S*) ?(.+)?$/s.exec(message) ?? [];
          this.#waiters.get(id)?.onNotified(node, key);
        },
      });
      if (open.subscription === undefined) this.#refused(node);
    } catch (error) {
      this.#refused(node, withoutCommand(error));
    }
  }

  #heard(node: Node, open: Open): void {
    open.probe = undefined;
    if (open.isProven) return;
    open.isProven = true;
    this.#changed();
    for (const waiter of this.#waiters.values()) waiter.onSubscribed(node);
  }

  #lost(open: Open): void {
    const couldNotify = this.canNotify;
    open.unconfirmedMs ??= this.#environment.monotonicMs();
    open.probe = undefined;
    open.isProven = false;
    this.#afterLoss(couldNotify);
  }

  /** Tells the waiters that they have to poll, if no quorum can notify them any more. */
  #afterLoss(couldNotify: boolean): void {
    if (couldNotify === this.canNotify) return;
    for (const waiter of this.#waiters.values()) waiter.onQuorumLost();
  }

  #probe(node: Node, open: Open): void {
    const probe: Open["probe"] = {};
    open.probe = probe;
    node.query("publish", [this.#name, PROBE]).then(
      () => {
        probe.publishedMs = this.#environment.monotonicMs();
      },
      (error: unknown) => {
        if (this.#states.get(node) !== open || open.probe !== probe) return;
        if (isRefusal(error)) this.#refused(node, error);
        else open.probe = undefined;
      },
    );
  }

  #probeLater(): void {
    this.#probing = this.#environment.setBackgroundTimer(() => {
      // If the process was busy, messages may have arrived that were not read yet.
      this.#environment.afterPoll(() => {
        if (this.#probing === undefined) return;
        for (const node of this.#nodes) this.#check(node);
        this.#probeLater();
      });
    }, PROBE_MS);
  }

  #check(node: Node): void {
    // If the node is down or silent, missing messages say nothing about the subscription.
    if (node.refusal() !== undefined) return;
    const nowMs = this.#environment.monotonicMs();
    const isLongAgo = (atMs: number | undefined, ms: number): boolean =>
      atMs !== undefined && nowMs - atMs >= ms;
    const state = this.#states.get(node);
    if (state === undefined) return;
    if (state.kind === "refused") {
      if (isLongAgo(state.sinceMs, REFUSAL_RETRY_MS)) this.#subscribe(node);
    } else if (
      isLongAgo(state.probe?.publishedMs, PROBE_TIMEOUT_MS) ||
      isLongAgo(state.unconfirmedMs, UNCONFIRMED_MS)
    ) {
      this.#drop(node);
      this.#subscribe(node);
    } else if (state.unconfirmedMs === undefined && state.probe === undefined) {
      this.#probe(node, state);
    }
  }

  #drop(node: Node): void {
    const couldNotify = this.canNotify;
    const state = this.#states.get(node);
    if (state?.kind === "open") state.subscription?.close();
    this.#states.delete(node);
    this.#afterLoss(couldNotify);
  }

  #refused(node: Node, cause?: Error): void {
    this.#drop(node);
    this.#states.set(node, { kind: "refused", sinceMs: this.#environment.monotonicMs() });
    this.#changed();
    if (this.#reported.has(node)) return;
    this.#reported.add(node);
    const why = cause === undefined ? "its client cannot subscribe" : cause.message;
    this.#report(
      new Error(
        `${node.name} cannot notify callers that wait for a lock: ${why}. They poll instead. ` +
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

function canNotify(state: Open | Refused): boolean {
  return state.kind === "open" && state.isProven;
}

/** Whether the node itself refused, and not just for the moment. */
function isRefusal(error: unknown): error is Error {
  return isReply(error) && !isPassing(error);
}
