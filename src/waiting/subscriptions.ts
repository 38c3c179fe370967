import pTimeout from "p-timeout";
import { type Environment, pTimeoutTimers, type Timer } from "../runtime/environment.js";
import { withoutCommand } from "../errors.js";
import { isPassing, isReply, type Subscription } from "../clients/connection.js";
import type { Node } from "../nodes/node.js";
import { quorumOf } from "../quorum/round.js";
import { CHANNEL_PREFIX } from "./queue-keys.js";

/** Subscriptions are kept for so long after the last waiter. */
const IDLE_MS = 5000;
/** Each subscription is probed this often. */
const PROBE_MS = 1000;
/** A subscription on which a published probe did not arrive for so long is dead. */
const DEAF_MS = 500;
/** A subscription that the node has not confirmed for so long is made anew. */
const UNCONFIRMED_MS = 5000;
/** A node that refused to be listened to is asked again after this long. */
const MUTE_MS = 60_000;
/** What a client publishes to itself; no waiter has this id. */
const PROBE = "";

/** What a waiter is told. */
export interface QueueListener {
  /** The node calls it. */
  onWakeUp(node: Node): void;
  /** From now on, this node can call it. */
  onHeard(node: Node): void;
  /** No quorum can call it any more. */
  onUnheard(): void;
}

/** A subscription to one node. */
interface Ear {
  readonly kind: "ear";
  subscription: Subscription | undefined;
  /** Whether a message came through, and may still do so. */
  isHeard: boolean;
  /** Since when it is not confirmed by the node; undefined where it is. */
  unconfirmedMs: number | undefined;
  /** The last probe, until something is heard; with when the node said that it published it. */
  probe: { publishedMs?: number } | undefined;
}

/** The node cannot be listened to. */
interface Mute {
  readonly kind: "mute";
  readonly sinceMs: number;
}

/**
 * Hears from the nodes who is next in line: one channel for all waiters of a Redlock, and one
 * subscription a node, opened for the first waiter.
 *
 * A connection can die without a word, and a node may let a client subscribe but not publish. So the client publishes
 * to itself: a node counts as heard once a message came through, and for as long as one does.
 */
export class Subscriptions {
  readonly #nodes: readonly Node[];
  readonly #environment: Environment;
  readonly #report: (error: Error, node: Node) => void;
  #channel: string | undefined;
  readonly #states = new Map<Node, Ear | Mute>();
  readonly #reported = new Set<Node>();
  readonly #waiters = new Map<string, QueueListener>();
  #onChange: (() => void)[] = [];
  #idle: Timer | undefined;
  #probing: Timer | undefined;
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

  /** From now on, the waiter of this id is told who calls it. */
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

  /** Whether a quorum can call. */
  get isHeard(): boolean {
    return this.#count(isHeard) >= quorumOf(this.#nodes.length);
  }

  /** Whether a waiter may stand in line without waiting for subscriptions. */
  get isReady(): boolean {
    const isSettled = (state: Ear | Mute): boolean => state.kind === "mute" || isHeard(state);
    const isAll = this.#count(isSettled) >= this.#nodes.length;
    return this.isHeard || isAll || this.#isGivenUp || this.#closed;
  }

  #count(has: (state: Ear | Mute) => boolean): number {
    let count = 0;
    for (const state of this.#states.values()) if (has(state)) count += 1;
    return count;
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
    const state = this.#states.get(node);
    return state !== undefined && isHeard(state) ? this.#name : "";
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
      if (state.kind === "ear") state.subscription?.close();
    }
    this.#states.clear();
    this.#isGivenUp = false;
    this.#changed();
  };

  #subscribe(node: Node): void {
    const unconfirmedMs = this.#environment.monotonicMs();
    const ear: Ear = {
      kind: "ear",
      subscription: undefined,
      isHeard: false,
      unconfirmedMs,
      probe: undefined,
    };
    this.#states.set(node, ear);
    const isOurs = (): boolean => this.#states.get(node) === ear;
    try {
      ear.subscription = node.subscribe(this.#name, {
        onOpen: () => {
          if (!isOurs()) return;
          ear.unconfirmedMs = undefined;
          this.#probe(node, ear);
        },
        onLoss: (error) => {
          if (!isOurs()) return;
          if (isRefusal(error)) this.#isMute(node, error);
          else this.#lost(ear);
        },
        onMessage: (message) => {
          if (isOurs()) this.#heard(node, ear);
          this.#waiters.get(message)?.onWakeUp(node);
        },
      });
      if (ear.subscription === undefined) this.#isMute(node);
    } catch (error) {
      this.#isMute(node, withoutCommand(error));
    }
  }

  #heard(node: Node, ear: Ear): void {
    ear.probe = undefined;
    if (ear.isHeard) return;
    ear.isHeard = true;
    this.#changed();
    for (const waiter of this.#waiters.values()) waiter.onHeard(node);
  }

  #lost(ear: Ear): void {
    const wasHeard = this.isHeard;
    ear.unconfirmedMs ??= this.#environment.monotonicMs();
    ear.probe = undefined;
    ear.isHeard = false;
    this.#afterLoss(wasHeard);
  }

  /** Those who were to be called by a quorum have to poll, where there is none any more. */
  #afterLoss(wasHeard: boolean): void {
    if (wasHeard === this.isHeard) return;
    for (const waiter of this.#waiters.values()) waiter.onUnheard();
  }

  #probe(node: Node, ear: Ear): void {
    const probe: Ear["probe"] = {};
    ear.probe = probe;
    node.query("publish", [this.#name, PROBE]).then(
      () => {
        probe.publishedMs = this.#environment.monotonicMs();
      },
      (error: unknown) => {
        if (this.#states.get(node) !== ear || ear.probe !== probe) return;
        if (isRefusal(error)) this.#isMute(node, error);
        else ear.probe = undefined;
      },
    );
  }

  #probeLater(): void {
    this.#probing = this.#environment.setBackgroundTimer(() => {
      // After a busy while, what was heard may be unread.
      this.#environment.afterPoll(() => {
        if (this.#probing === undefined) return;
        for (const node of this.#nodes) this.#check(node);
        this.#probeLater();
      });
    }, PROBE_MS);
  }

  #check(node: Node): void {
    // What a node that is down or silent does not say is no fault of the subscription.
    if (node.refusal() !== undefined) return;
    const nowMs = this.#environment.monotonicMs();
    const isLongAgo = (atMs: number | undefined, ms: number): boolean =>
      atMs !== undefined && nowMs - atMs >= ms;
    const ear = this.#states.get(node);
    if (ear === undefined) return;
    if (ear.kind === "mute") {
      if (isLongAgo(ear.sinceMs, MUTE_MS)) this.#subscribe(node);
    } else if (
      isLongAgo(ear.probe?.publishedMs, DEAF_MS) ||
      isLongAgo(ear.unconfirmedMs, UNCONFIRMED_MS)
    ) {
      this.#drop(node);
      this.#subscribe(node);
    } else if (ear.unconfirmedMs === undefined && ear.probe === undefined) {
      this.#probe(node, ear);
    }
  }

  #drop(node: Node): void {
    const wasHeard = this.isHeard;
    const state = this.#states.get(node);
    if (state?.kind === "ear") state.subscription?.close();
    this.#states.delete(node);
    this.#afterLoss(wasHeard);
  }

  #isMute(node: Node, cause?: Error): void {
    this.#drop(node);
    this.#states.set(node, { kind: "mute", sinceMs: this.#environment.monotonicMs() });
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

function isHeard(state: Ear | Mute): boolean {
  return state.kind === "ear" && state.isHeard;
}

/** Whether the node itself said no, and not just for the moment. */
function isRefusal(error: unknown): error is Error {
  return isReply(error) && !isPassing(error);
}
