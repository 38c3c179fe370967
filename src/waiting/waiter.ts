import { sleep } from "../runtime/environment.js";
import { Link } from "../runtime/link.js";
import { isHeld, ResourceLockedError } from "../errors.js";
import type { Lock } from "../lock.js";
import type { Node } from "../nodes/node.js";
import type { Operation } from "../operations/operation.js";
import { type QueueReply, type QueueEntry, queueReplyIn } from "../operations/queue.js";
import { isRefusal } from "../quorum/ballot.js";
import { quorumOf, Round } from "../quorum/round.js";
import type { LocalWaiters, Position, Shared, QueuedAttempt, Wait } from "./wait.js";
import {
  attemptAtMs,
  graceMs,
  LONGEST_GRACE_MS,
  nextPoll,
  placeIn,
  type Place,
  type Poll,
  rankIn,
  splitPauseMs,
} from "./schedule.js";
import type { QueueListener } from "./subscriptions.js";

/**
 * `local`: behind other waiters of its process. `joining`: subscribes, and reads the nodes' clocks. `queued`: has a
 * ticket, and is in the queue on the nodes. `left`: has the lock, or has stopped waiting.
 */
type State = "local" | "joining" | "queued" | "left";

/** The vote of a node that refuses a join. It never leaves this file. */
const held = new ResourceLockedError("held");

/**
 * One call that waits. It attempts when its retry timer fires. While it is in the queue on the nodes, it also attempts
 * when they notify it, and when the lock in its way should have expired.
 */
export class Waiter implements QueueListener, Position {
  readonly link = new Link<Waiter>(this);
  readonly #wait: Wait;
  readonly #localWaiters: LocalWaiters;
  readonly #shared: Shared;
  /** The id of its ticket. The id and the time of a ticket are drawn once, when the waiter joins the queue. */
  #id = "";
  #state: State = "local";
  /** The time of its ticket by the nodes' clocks, in epoch ms. */
  #ticketMs = 0;
  #isAttempting = false;
  // The collections are made once they are needed: most waiters wait behind another one of their process.
  /** Nodes that can notify it by now, but on which it is queued as a waiter that polls. */
  #newlySubscribed: Set<Node> | undefined;
  #places: Map<Node, Place> | undefined;
  /** How many waiters of other processes are before it, as a node last said; and as one said when it had joined. */
  rank = 0;
  firstRank: number | undefined;
  #notifiedBy: Set<Node> | undefined;
  #attemptAtMs = Infinity;
  #poll: Poll | undefined;
  /** The round of its last attempt; and whether it was in the queue then. */
  #lastRound: Round | undefined;
  #wasQueuedThen = false;
  /** The last pause after a split vote. */
  #splitMs = 0;
  #wake: (() => void) | undefined;

  constructor(wait: Wait, localWaiters: LocalWaiters, shared: Shared) {
    this.#wait = wait;
    this.#localWaiters = localWaiters;
    this.#shared = shared;
  }

  get ahead(): number {
    return this.#localWaiters.aheadOf(this);
  }

  /** When the call began, by the monotonic clock. */
  get sinceMs(): number {
    return this.#wait.start.monotonicMs;
  }

  /**
   * Attempts when the retry timer fires, when nodes notify it and when the lock in its way should have expired, until it
   * has the lock. Resolves with undefined if the time or the retries are used up.
   */
  async untilGiven(): Promise<Lock | undefined> {
    const { retries, signals } = this.#wait;
    const { environment } = this.#shared;
    let tickMs: number | undefined;
    let ticks = 0;
    while (ticks < retries) {
      for (const signal of signals) signal.throwIfAborted();
      const nowMs = environment.monotonicMs();
      const leftMs = this.#wait.timeLeftMs;
      // A local waiter only counts its retries, which it need not do if they are unlimited.
      if (!this.#is("local") || retries < Infinity) tickMs ??= nowMs + this.#wait.nextDelayMs();
      if (leftMs <= 0) return undefined;
      const isTick = tickMs !== undefined && nowMs >= tickMs;
      if (isTick || nowMs >= this.#attemptAtMs) {
        const lock = await (isTick ? this.#tick() : this.#attempt());
        if (lock !== undefined) return lock;
        // If the retry timer was due during another attempt, that attempt counts as the timer's.
        if (isTick || (tickMs !== undefined && environment.monotonicMs() >= tickMs)) {
          ticks += 1;
          tickMs = undefined;
        }
      } else {
        const nextMs = Math.min(tickMs ?? Infinity, this.#attemptAtMs);
        const delayMs = Math.ceil(Math.min(nextMs - nowMs, leftMs));
        await sleep(environment, delayMs, signals, (wake) => {
          this.#wake = wake;
        });
      }
    }
    return undefined;
  }

  /** Makes the retry timer's attempt. A local waiter shares the last attempt of the first waiter instead. */
  #tick(): Promise<Lock | undefined> | undefined {
    const { lastAttempt } = this.#localWaiters;
    if (!this.#is("local") || lastAttempt === undefined) return this.#attempt();
    this.#wait.history.addOfOther(lastAttempt.round);
    const agoMs = this.#shared.environment.monotonicMs() - lastAttempt.atMs;
    if (agoMs >= this.#wait.nextDelayMs()) this.#localWaiters.hurry();
    return undefined;
  }

  /** Joins the queue on the nodes, unless it has. */
  join(): void {
    if (!this.#is("local")) return;
    this.#state = "joining";
    this.#wake?.();
    void this.#join();
  }

  hurry(): void {
    this.#attemptWithin(0);
  }

  /**
   * Leaves the queue on the nodes, and passes on what they reserved for it. If it acquired as a queued waiter, the nodes
   * that voted for it have removed it already; on the others, its lock gets a key that is handed over to it too late.
   */
  leave(lock: Lock | undefined): void {
    const wasQueued = this.#is("queued");
    this.#state = "left";
    if (!wasQueued) return;
    this.#shared.subscriptions.forget(this.#id);
    const last = this.#lastRound;
    const leave = this.#wait.leave(this.#id);
    const tell = (node: Node, operations: readonly Operation[]): void => {
      for (const operation of operations) node.tell(operation, () => true);
    };
    if (lock === undefined || !this.#wasQueuedThen || last === undefined) {
      for (const node of this.#shared.nodes) tell(node, leave);
      return;
    }
    const leaveForLock = this.#wait.leave(this.#id, lock);
    void last.complete().then(() => {
      for (const { node, vote } of last.ballots) {
        if (vote === "for") continue;
        const isLate = isRefusal(vote) && isHeld(vote) && lock.valid;
        tell(node, isLate ? leaveForLock : leave);
        if (isLate) this.#wait.give(lock, node);
      }
    });
  }

  async #join(): Promise<void> {
    const { subscriptions, clocks } = this.#shared;
    this.#id = subscriptions.newId();
    subscriptions.listenFor(this.#id, this);
    if (!subscriptions.isReady) await subscriptions.ready(this.#nodeTimeoutMs);
    if (clocks.offsetMs() === undefined && !this.#is("left")) await this.#ask("");
    if (this.#is("left")) {
      subscriptions.forget(this.#id);
      return;
    }
    this.#state = "queued";
    const { monotonicMs, wallMs } = this.#wait.start;
    const offsetMs = clocks.offsetMs();
    this.#ticketMs = Math.round(offsetMs === undefined ? wallMs : monotonicMs + offsetMs);
    await this.#ask(this.#id);
    this.firstRank = this.rank;
    this.#expect();
  }

  /** Asks for a place in the queue; without an id, only reads the state of the nodes. */
  async #ask(id: string, nodes = this.#shared.nodes): Promise<void> {
    const { environment, onRefusal } = this.#shared;
    const askedMs = environment.monotonicMs();
    const lastRound = this.#lastRound;
    const round = new Round(
      {
        nodes,
        operation: (node) => this.#wait.join({ ...this.#entryFor(node), id }),
        judge: (reply, node) => {
          const queueReply = queueReplyIn(reply);
          if (queueReply !== undefined) this.#onQueueReply(node, queueReply, askedMs);
          return queueReply?.isOpen === true ? undefined : held;
        },
        nodeTimeoutMs: this.#wait.nodeTimeoutMs,
        onRefusal,
        // Not after a later attempt, nor after it has left: it would join for nothing.
        isWantedLate: () =>
          this.#is("queued") && !this.#isAttempting && this.#lastRound === lastRound,
      },
      environment,
    );
    await round.quorumWith(isHeld);
    this.#shared.pace.note(round.elapsedMs);
  }

  /** Asks the nodes for the lock; as a queued waiter, once it is one. */
  async #attempt(): Promise<Lock | undefined> {
    const { environment } = this.#shared;
    this.#attemptAtMs = Infinity;
    this.#notifiedBy = undefined;
    this.#newlySubscribed = undefined;
    this.#places = undefined;
    const atMs = environment.monotonicMs();
    const queued = this.#queuedAttempt(atMs);
    this.#wasQueuedThen = queued !== undefined;
    this.#isAttempting = true;
    const onRound = (round: Round): void => {
      this.#lastRound = round;
      this.#localWaiters.lastAttempt = { round, atMs };
    };
    const lock = await this.#wait.attempt(queued, onRound).finally(() => {
      this.#isAttempting = false;
    });
    this.#shared.pace.note(environment.monotonicMs() - atMs);
    if (lock !== undefined) return lock;
    this.#expect();
    this.#rejoinSubscribed();
    if (this.#lastRound !== undefined) void this.#comeBack(this.#lastRound);
    return undefined;
  }

  /**
   * Joins the queue again after a failed attempt, since the nodes that voted for it removed it from the queue. If several
   * waiters attempted and none got a quorum, no waiter may be left for the nodes to notify. So each attempts again after
   * a pause that grows with its position and with each failure, until the pause reaches that of the retry timer.
   */
  async #comeBack(failed: Round): Promise<void> {
    await failed.complete();
    if (!this.#is("queued")) return;
    // A later attempt has joined the queue, or left it.
    if (this.#lastRound !== failed) return;
    if (failed.ballots.every(({ vote }) => vote !== "for")) return;
    await this.#ask(this.#id);
    this.#splitMs = splitPauseMs(this.#splitMs, this.#shared.pace.slowestMs);
    if (this.#splitMs < this.#wait.mostDelayMs) this.#expect(this.#splitMs);
  }

  #queuedAttempt(askedMs: number): QueuedAttempt | undefined {
    if (!this.#is("queued")) return undefined;
    return {
      keys: this.#wait.queueKeys,
      entryFor: (node) => this.#entryFor(node),
      onQueueReply: (node, reply) => {
        this.#onQueueReply(node, reply, askedMs);
      },
    };
  }

  #entryFor(node: Node): QueueEntry {
    const { subscriptions, pace } = this.#shared;
    const channel = subscriptions.channelOn(node);
    const nodeTimeoutMs = this.#nodeTimeoutMs;
    const pollMs = this.#wait.mostDelayMs + nodeTimeoutMs;
    return {
      ticketMs: this.#ticketMs,
      id: this.#id,
      channel,
      graceMs: Math.ceil(channel === "" ? pollMs : graceMs(pace.slowestMs)),
      lifeMs: Math.ceil(pollMs + nodeTimeoutMs + LONGEST_GRACE_MS),
    };
  }

  get #nodeTimeoutMs(): number {
    return Math.max(...this.#shared.nodes.map(this.#wait.nodeTimeoutMs));
  }

  #onQueueReply(node: Node, reply: QueueReply, askedMs: number): void {
    const { clocks, environment } = this.#shared;
    const nowMs = environment.monotonicMs();
    clocks.note(node, reply.nodeMs, (nowMs - askedMs) / 2);
    this.rank = reply.rank;
    this.#places ??= new Map();
    this.#places.set(node, placeIn(reply, nowMs));
  }

  onNotified(node: Node, key?: string): void {
    this.#wait.onNotified(node, key);
    this.#notifiedBy ??= new Set();
    this.#notifiedBy.add(node);
    this.#splitMs = 0;
    const { nodes, pace } = this.#shared;
    // Nodes that disagree about the next waiter may never be a quorum.
    this.#attemptWithin(this.#notifiedBy.size >= quorumOf(nodes.length) ? 0 : pace.slowestMs);
  }

  onSubscribed(node: Node): void {
    if (!this.#is("queued")) return;
    this.#newlySubscribed ??= new Set();
    this.#newlySubscribed.add(node);
    // If an attempt under way acquires the lock, a join sent after it would wait for a lock that it holds.
    if (!this.#isAttempting) this.#rejoinSubscribed();
  }

  /** Joins again as a waiter that is notified. For one that polls, the key would stay reserved until it polls. */
  #rejoinSubscribed(): void {
    const nodes = this.#newlySubscribed;
    this.#newlySubscribed = undefined;
    if (nodes === undefined || !this.#is("queued")) return;
    void this.#ask(this.#id, [...nodes]).then(() => {
      this.#expect();
    });
  }

  /** It has to poll from now on, so attempts at once, which also tells the nodes. */
  onQuorumLost(): void {
    if (this.#is("queued")) this.hurry();
  }

  /**
   * Plans the attempt for when a quorum of nodes should be free and, if no quorum can notify it, the next poll.
   *
   * @param pauseMs the pause of the first waiter, and of each further one in addition
   */
  #expect(pauseMs = 0): void {
    const { nodes, pace, subscriptions, environment } = this.#shared;
    const quorum = quorumOf(nodes.length);
    if (this.#places === undefined || this.#places.size < quorum) return;
    const places = this.#wait.placesFor([...this.#places.values()], quorum);
    const { slowestMs } = pace;
    const atMs = attemptAtMs(places, quorum, slowestMs, pauseMs);
    if (atMs < Infinity) this.#attemptWithin(atMs - environment.monotonicMs());
    if (subscriptions.canNotify) return;
    this.#poll = nextPoll(this.#poll, rankIn(places), slowestMs);
    this.#attemptWithin(this.#poll.stillMs * (this.#poll.rank + 1));
  }

  /** A method, since TypeScript would assume that the state stays the same across an await. */
  #is(state: State): boolean {
    return this.#state === state;
  }

  #attemptWithin(ms: number): void {
    const atMs = this.#shared.environment.monotonicMs() + ms;
    if (atMs >= this.#attemptAtMs) return;
    this.#attemptAtMs = atMs;
    this.#wake?.();
  }
}
