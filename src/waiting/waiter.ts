import { sleep } from "../runtime/environment.js";
import { isHeld, ResourceLockedError } from "../errors.js";
import type { Lock } from "../lock.js";
import type { Node } from "../nodes/node.js";
import { joinOperation } from "../operations/join.js";
import { leaveOperation } from "../operations/leave.js";
import { type QueueReply, type Standing, queueReplyIn } from "../operations/queue.js";
import { isRefusal } from "../quorum/ballot.js";
import { quorumOf, Round } from "../quorum/round.js";
import type { Companions, Shared, Stand, Wait } from "./wait.js";
import {
  attemptAtMs,
  graceMs,
  LONGEST_GRACE_MS,
  nextPoll,
  type Place,
  type Poll,
  rankIn,
  splitPauseMs,
} from "./schedule.js";
import type { QueueListener } from "./subscriptions.js";

/** A key has expired once the node's clock, in whole ms, is beyond its expiry. */
const EXPIRY_MS = 2;

/**
 * `local`: behind others of its process. `joining`: asks the nodes how they are. `queued`: has a ticket, and stands
 * in the queue on the nodes. `left`: has the lock, or waits no longer.
 */
type State = "local" | "joining" | "queued" | "left";

/** What a join is refused with; nobody outside sees it. */
const held = new ResourceLockedError("held");

/**
 * One call that waits: attempts when its retry timer says so and, while it stands in line on the nodes,
 * when they say that it is next, or what is in its way should have expired.
 */
export class Waiter implements QueueListener {
  readonly #wait: Wait;
  readonly #companions: Companions;
  readonly #shared: Shared;
  readonly #id: string;
  #state: State = "local";
  /** By the nodes' clocks; drawn once, when it is queued. */
  #ticketMs = 0;
  #isAttempting = false;
  /** Nodes on which it stands as one who polls, though they can call it by now. */
  readonly #heardBy = new Set<Node>();
  readonly #told = new Map<Node, Place>();
  readonly #wokenBy = new Set<Node>();
  #attemptAtMs = Infinity;
  #poll: Poll | undefined;
  /** Of its last attempt; and whether it made that as one who stands in line. */
  #lastRound: Round | undefined;
  #lastStood = false;
  /** How long it waited after its last attempt that was one of several. */
  #splitMs = 0;
  #wake: (() => void) | undefined;
  /** By an attempt that the retry timer did not start. */
  #given: Lock | undefined;
  #hasTicked = false;

  constructor(wait: Wait, companions: Companions, shared: Shared) {
    this.#wait = wait;
    this.#companions = companions;
    this.#shared = shared;
    this.#id = shared.subscriptions.newId();
  }

  /** When it was asked for, by the monotonic clock. */
  get sinceMs(): number {
    return this.#wait.start.monotonicMs;
  }

  /** Waits for the retry timer; false where the time is over before. What is attempted meanwhile moves no timer. */
  async pause(): Promise<boolean> {
    const { retries, nextDelayMs, timeLeftMs, signals } = this.#wait;
    const { environment } = this.#shared;
    let tickMs: number | undefined;
    for (;;) {
      for (const signal of signals) signal.throwIfAborted();
      const nowMs = environment.monotonicMs();
      const leftMs = timeLeftMs();
      // Behind others of its process it only counts its retries, and need not where they are without end.
      if (!this.#is("local") || retries < Infinity) tickMs ??= nowMs + nextDelayMs();
      if (leftMs <= 0) return false;
      if (tickMs !== undefined && nowMs >= tickMs) return true;
      if (nowMs >= this.#attemptAtMs) {
        this.#given = await this.#attempt();
        // An attempt that was under way when the timer's was due is that one.
        this.#hasTicked = tickMs !== undefined && environment.monotonicMs() >= tickMs;
        if (this.#given !== undefined || this.#hasTicked) return true;
      } else {
        const nextMs = Math.min(tickMs ?? Infinity, this.#attemptAtMs);
        const delayMs = Math.ceil(Math.min(nextMs - nowMs, leftMs));
        await sleep(environment, delayMs, signals, (wake) => {
          this.#wake = wake;
        });
      }
    }
  }

  /** The retry timer's attempt. One who does not stand in line takes part in that of one who does. */
  async tick(): Promise<Lock | undefined> {
    if (this.#given !== undefined || this.#hasTicked) {
      this.#hasTicked = false;
      return this.#given;
    }
    const { lastAttempt } = this.#companions;
    if (!this.#is("local") || lastAttempt === undefined) return this.#attempt();
    this.#wait.history.add(lastAttempt.round);
    const agoMs = this.#shared.environment.monotonicMs() - lastAttempt.atMs;
    if (agoMs >= this.#wait.nextDelayMs()) this.#companions.hurry();
    return undefined;
  }

  /** Stands in line on the nodes, unless it does. */
  stand(): void {
    if (!this.#is("local")) return;
    this.#state = "joining";
    this.#wake?.();
    void this.#stand();
  }

  hurry(): void {
    this.#attemptWithin(0);
  }

  /**
   * Leaves the line on the nodes, and passes on what they reserved for it. Where it acquired as one who stands in
   * line, it is out already on the nodes that were for it, and is given what the others hand over to it too late.
   */
  leave(lock: Lock | undefined): void {
    const wasQueued = this.#is("queued");
    this.#state = "left";
    if (!wasQueued) return;
    this.#shared.subscriptions.forget(this.#id);
    const last = this.#lastRound;
    const leave = leaveOperation(this.#wait.lineKeys, this.#id, false);
    if (lock === undefined || !this.#lastStood || last === undefined) {
      for (const node of this.#shared.nodes) node.tell(leave, () => true);
      return;
    }
    const leaveForLock = leaveOperation(this.#wait.lineKeys, this.#id, true);
    void last.complete().then(() => {
      for (const { node, vote } of last.ballots) {
        if (vote === "for") continue;
        const isLate = isRefusal(vote) && isHeld(vote) && lock.valid;
        node.tell(isLate ? leaveForLock : leave, () => true);
        if (isLate) this.#wait.give(lock, node);
      }
    });
  }

  async #stand(): Promise<void> {
    const { subscriptions, clocks } = this.#shared;
    subscriptions.listenFor(this.#id, this);
    if (!subscriptions.isReady) await subscriptions.ready(this.#nodeTimeoutMs);
    if (clocks.offsetMs() === undefined && !this.#is("left")) await this.#ask("");
    if (this.#is("left")) {
      subscriptions.forget(this.#id);
      return;
    }
    this.#state = "queued";
    this.#ticketMs = Math.round(this.#wait.start.wallMs + (clocks.offsetMs() ?? 0));
    await this.#ask(this.#id);
    this.#expect();
  }

  /** Asks for a place in line; without an id only how things are. */
  async #ask(id: string, nodes = this.#shared.nodes): Promise<void> {
    const { environment, onRefusal } = this.#shared;
    const { lineKeys, nodeTimeoutMs } = this.#wait;
    const askedMs = environment.monotonicMs();
    const round = new Round(
      {
        nodes,
        operation: (node) => joinOperation(lineKeys, { ...this.#standing(node), id }),
        judge: (reply, node) => {
          const told = queueReplyIn(reply);
          if (told !== undefined) this.#onTold(node, told, askedMs);
          return told?.isOpen === true ? undefined : held;
        },
        nodeTimeoutMs,
        onRefusal,
      },
      environment,
    );
    await round.quorumWith(isHeld);
    this.#shared.pace.note(round.elapsedMs);
  }

  /** Asks the nodes for the lock; as one who stands in line, once it does. */
  async #attempt(): Promise<Lock | undefined> {
    const { environment } = this.#shared;
    this.#attemptAtMs = Infinity;
    this.#wokenBy.clear();
    this.#heardBy.clear();
    this.#told.clear();
    const atMs = environment.monotonicMs();
    const stand = this.#asStanding(atMs);
    this.#lastStood = stand !== undefined;
    this.#isAttempting = true;
    const onRound = (round: Round): void => {
      this.#lastRound = round;
      this.#companions.lastAttempt = { round, atMs };
    };
    const lock = await this.#wait.attempt(stand, onRound).finally(() => {
      this.#isAttempting = false;
    });
    this.#shared.pace.note(environment.monotonicMs() - atMs);
    if (lock !== undefined) return lock;
    this.#expect();
    this.#standAsHeard();
    if (this.#lastRound !== undefined) void this.#comeBack(this.#lastRound);
    return undefined;
  }

  /**
   * After a failed attempt: the nodes that were for it have let it out of the line. Where several attempted and
   * none got a quorum, nobody may be left for the nodes to call: each tries again by its place in line, the later,
   * the more often this has failed, and from the longest pause of the retry timer on not at all.
   */
  async #comeBack(failed: Round): Promise<void> {
    await failed.complete();
    if (!this.#is("queued")) return;
    // A later attempt's take has put it into the line, or out of it.
    if (this.#lastRound !== failed) return;
    if (failed.ballots.every(({ vote }) => vote !== "for")) return;
    await this.#ask(this.#id);
    this.#splitMs = splitPauseMs(this.#splitMs, this.#shared.pace.slowestMs);
    if (this.#splitMs < this.#wait.mostDelayMs) this.#expect(this.#splitMs);
  }

  #asStanding(askedMs: number): Stand | undefined {
    if (!this.#is("queued")) return undefined;
    return {
      keys: this.#wait.lineKeys,
      standing: (node) => this.#standing(node),
      onTold: (node, told) => {
        this.#onTold(node, told, askedMs);
      },
    };
  }

  #standing(node: Node): Standing {
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

  #onTold(
    node: Node,
    { isOpen, leftMs = Infinity, nodeMs, rank }: QueueReply,
    askedMs: number,
  ): void {
    const { clocks, environment } = this.#shared;
    const nowMs = environment.monotonicMs();
    clocks.note(node, nodeMs, (nowMs - askedMs) / 2);
    this.#told.set(node, { freeMs: isOpen ? nowMs : nowMs + leftMs + EXPIRY_MS, rank });
  }

  onWakeUp(node: Node): void {
    this.#wokenBy.add(node);
    this.#splitMs = 0;
    const { nodes, pace } = this.#shared;
    // Nodes that disagree about who is next may never be a quorum.
    this.#attemptWithin(this.#wokenBy.size >= quorumOf(nodes.length) ? 0 : pace.slowestMs);
  }

  onHeard(node: Node): void {
    if (!this.#is("queued")) return;
    this.#heardBy.add(node);
    // Behind an attempt that gets the lock it would stand in line for a lock that it has.
    if (!this.#isAttempting) this.#standAsHeard();
  }

  /** As one who polls, the key is kept for it until it asks: for long, where it is dead. */
  #standAsHeard(): void {
    const nodes = [...this.#heardBy];
    this.#heardBy.clear();
    if (nodes.length === 0 || !this.#is("queued")) return;
    void this.#ask(this.#id, nodes).then(() => {
      this.#expect();
    });
  }

  /** It stands in line as one who is called, and has to do so as one who polls. */
  onUnheard(): void {
    if (this.#is("queued")) this.hurry();
  }

  /**
   * Attempts when a quorum of the nodes should be free; and, where it is not called, when it has to ask again.
   *
   * @param pauseMs before the first in the queue attempts, and once more for each that stands before
   */
  #expect(pauseMs = 0): void {
    const { nodes, pace, subscriptions, environment } = this.#shared;
    const places = [...this.#told.values()];
    const quorum = quorumOf(nodes.length);
    if (places.length < quorum) return;
    const { slowestMs } = pace;
    const atMs = attemptAtMs(places, quorum, slowestMs, pauseMs);
    if (atMs < Infinity) this.#attemptWithin(atMs - environment.monotonicMs());
    if (subscriptions.isHeard) return;
    this.#poll = nextPoll(this.#poll, rankIn(places), slowestMs);
    this.#attemptWithin(this.#poll.stillMs * (this.#poll.rank + 1));
  }

  /** Asked anew each time: what it awaits may change it. */
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
