import { type Environment, type Instant, sleep } from "../runtime/environment.js";
import { isHeld, ResourceLockedError } from "../errors.js";
import type { History } from "../quorum/history.js";
import type { Lock } from "../lock.js";
import type { Node } from "../nodes/node.js";
import {
  joinOperation,
  leaveOperation,
  type LineKeys,
  type Operation,
  type Standing,
  type Told,
  toldBy,
} from "../operations/operation.js";
import { isRefusal } from "../quorum/ballot.js";
import { quorumOf, Round } from "../quorum/round.js";
import type { NodeClocks } from "./node-clocks.js";
import type { Pace } from "./pace.js";
import type { WakeUpListener, WakeUps } from "./subscriptions.js";

/** What a key is kept for, for who is next: three of its slowest recent round trips and so many ms. */
const GRACE_MS = 50;
const LEAST_GRACE_MS = 100;
const LONGEST_GRACE_MS = 1000;
/** One who is not called asks again after so long at the least. */
const LEAST_POLL_MS = 1;
/** How much later it asks each time that the line stands still: the key is kept for who is next until it asks. */
const NEXT_POLL_GROWTH = 1.25;
const POLL_GROWTH = 2;
/** After votes that were split, the first in line tries again after so long at the least. */
const LEAST_SPLIT_MS = 2;
/** A key has expired once the node's clock, in whole ms, is beyond its expiry. */
const EXPIRY_MS = 2;

/** A call that waits, and how it attempts. */
export interface Wait {
  /** Of the locks that it waits for. */
  readonly keys: readonly string[];
  readonly lineKeys: LineKeys;
  /** When it was asked for: who comes first is served first. */
  readonly start: Instant;
  readonly history: History;
  readonly retries: number;
  /** Ms to the next attempt of the retry timer, anew each time; and the most that this may be. */
  readonly nextDelayMs: () => number;
  readonly mostDelayMs: number;
  readonly timeLeftMs: () => number;
  readonly nodeTimeoutMs: (node: Node) => number;
  readonly signals: readonly AbortSignal[];
  /** Attempts; with `stand` as one who stands in line. */
  readonly attempt: (stand: Stand | undefined) => Promise<Lock | undefined>;
  /** Gives a node the key of the lock that was acquired, where it is free there. */
  readonly give: (lock: Lock, node: Node) => void;
}

/** How a waiter's attempt differs. */
export interface Stand {
  readonly keys: LineKeys;
  readonly standing: (node: Node) => Standing;
  /** Told what each node says that refuses it. */
  readonly onTold: (node: Node, told: Told) => void;
}

/** What the waiters of one Redlock share. */
export interface Shared {
  readonly nodes: readonly Node[];
  readonly environment: Environment;
  readonly wakeUps: WakeUps;
  readonly clocks: NodeClocks;
  readonly pace: Pace;
  /** Told of each node that refuses a place in line, and why. */
  readonly onRefusal: (error: Error, node: Node) => void;
}

/** A waiter's place among those of its process who wait for the same. */
export interface Place {
  /** Makes the first attempt soon. */
  hurry(): void;
  /** Of any of them. */
  lastAttempt: { readonly round: Round; readonly atMs: number } | undefined;
}

/** What a join is refused with; nobody outside sees it. */
const held = new ResourceLockedError("held");

/**
 * One call that waits: attempts when its retry timer says so and, while it stands in line on the nodes,
 * when they say that it is next, or what is in its way should have expired.
 */
export class Waiter implements WakeUpListener {
  readonly #wait: Wait;
  readonly #place: Place;
  readonly #shared: Shared;
  readonly #id: string;
  /** By the nodes' clocks; drawn once, when it first stands in line on the nodes. */
  #ticketMs: number | undefined;
  #isStanding = false;
  #isAttempting = false;
  /** Nodes on which it stands as one who polls, though they can call it by now. */
  readonly #heardBy = new Set<Node>();
  /** When each node's keys should be free, and how many stand before. */
  readonly #told = new Map<Node, { readonly freeMs: number; readonly rank: number }>();
  readonly #wokenBy = new Set<Node>();
  #attemptAtMs = Infinity;
  /** For one who is not called: how many stood before it, and for how long it did not ask then. */
  #rank = Infinity;
  #stillMs = 0;
  /** Of its last attempt; and whether it made that as one who stands in line. */
  #lastRound: Round | undefined;
  #lastStood = false;
  /** How long it waited after its last attempt that was one of several. */
  #splitMs = 0;
  #wake: (() => void) | undefined;
  /** By an attempt that the retry timer did not start. */
  #given: Lock | undefined;
  #hasTicked = false;
  #hasLeft = false;

  constructor(wait: Wait, place: Place, shared: Shared) {
    this.#wait = wait;
    this.#place = place;
    this.#shared = shared;
    this.#id = shared.wakeUps.newId();
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
      if (this.#isStanding || retries < Infinity) tickMs ??= nowMs + nextDelayMs();
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
    const { lastAttempt } = this.#place;
    if (this.#isStanding || lastAttempt === undefined) return this.#attempt();
    this.#wait.history.add(lastAttempt.round);
    const agoMs = this.#shared.environment.monotonicMs() - lastAttempt.atMs;
    if (agoMs >= this.#wait.nextDelayMs()) this.#place.hurry();
    return undefined;
  }

  /** Stands in line on the nodes, unless it does. */
  stand(): void {
    if (this.#isStanding) return;
    this.#isStanding = true;
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
    this.#hasLeft = true;
    if (this.#ticketMs === undefined) return;
    this.#shared.wakeUps.forget(this.#id);
    const { last } = this.#wait.history;
    const leave = leaveOperation(this.#wait.lineKeys, this.#id, false);
    if (lock === undefined || !this.#lastStood || last === undefined) {
      for (const node of this.#shared.nodes) tell(node, leave);
      return;
    }
    const leaveForLock = leaveOperation(this.#wait.lineKeys, this.#id, true);
    void last.complete().then(() => {
      for (const { node, vote } of last.ballots) {
        if (vote === "for") continue;
        const isLate = isRefusal(vote) && isHeld(vote) && lock.valid;
        tell(node, isLate ? leaveForLock : leave);
        if (isLate) this.#wait.give(lock, node);
      }
    });
  }

  async #stand(): Promise<void> {
    const { wakeUps, clocks } = this.#shared;
    wakeUps.listenFor(this.#id, this);
    if (!wakeUps.isReady) await wakeUps.ready(this.#nodeTimeoutMs);
    if (clocks.offsetMs() === undefined && !this.#hasLeft) await this.#ask("");
    if (this.#hasLeft) {
      wakeUps.forget(this.#id);
      return;
    }
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
          const told = toldBy(reply);
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
    const attempt = this.#wait.attempt(stand);
    // The first of it: in the history, a second round of a fenced attempt takes its place.
    const round = this.#wait.history.last;
    this.#lastRound = round;
    if (round !== undefined) this.#place.lastAttempt = { round, atMs };
    const lock = await attempt.finally(() => {
      this.#isAttempting = false;
    });
    this.#shared.pace.note(environment.monotonicMs() - atMs);
    if (lock !== undefined) return lock;
    this.#expect();
    this.#standAsHeard();
    if (round !== undefined) void this.#comeBack(round);
    return undefined;
  }

  /**
   * After a failed attempt: the nodes that were for it have let it out of the line. Where several attempted and
   * none got a quorum, nobody may be left for the nodes to call: each tries again by its place in line, the later,
   * the more often this has failed, and from the longest pause of the retry timer on not at all.
   */
  async #comeBack(failed: Round): Promise<void> {
    await failed.complete();
    if (this.#hasLeft || this.#ticketMs === undefined) return;
    // A later attempt's take has put it into the line, or out of it.
    if (this.#lastRound !== failed) return;
    if (failed.ballots.every(({ vote }) => vote !== "for")) return;
    await this.#ask(this.#id);
    const { pace } = this.#shared;
    this.#splitMs = Math.max(2 * this.#splitMs, 2 * pace.slowestMs, LEAST_SPLIT_MS);
    if (this.#splitMs < this.#wait.mostDelayMs) this.#expect(this.#splitMs);
  }

  #asStanding(askedMs: number): Stand | undefined {
    if (this.#ticketMs === undefined) return undefined;
    return {
      keys: this.#wait.lineKeys,
      standing: (node) => this.#standing(node),
      onTold: (node, told) => {
        this.#onTold(node, told, askedMs);
      },
    };
  }

  #standing(node: Node): Standing {
    const { wakeUps, pace } = this.#shared;
    const channel = wakeUps.channelOn(node);
    const graceMs = Math.min(
      Math.max(3 * pace.slowestMs + GRACE_MS, LEAST_GRACE_MS),
      LONGEST_GRACE_MS,
    );
    const nodeTimeoutMs = this.#nodeTimeoutMs;
    const pollMs = this.#wait.mostDelayMs + nodeTimeoutMs;
    return {
      ticketMs: this.#ticketMs ?? 0,
      id: this.#id,
      channel,
      graceMs: Math.ceil(channel === "" ? pollMs : graceMs),
      lifeMs: Math.ceil(pollMs + nodeTimeoutMs + LONGEST_GRACE_MS),
    };
  }

  get #nodeTimeoutMs(): number {
    return Math.max(...this.#shared.nodes.map(this.#wait.nodeTimeoutMs));
  }

  #onTold(node: Node, { isOpen, leftMs = Infinity, nodeMs, rank }: Told, askedMs: number): void {
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
    if (this.#ticketMs === undefined) return;
    this.#heardBy.add(node);
    // Behind an attempt that gets the lock it would stand in line for a lock that it has.
    if (!this.#isAttempting) this.#standAsHeard();
  }

  /** As one who polls, the key is kept for it until it asks: for long, where it is dead. */
  #standAsHeard(): void {
    const nodes = [...this.#heardBy];
    this.#heardBy.clear();
    if (nodes.length === 0 || this.#hasLeft) return;
    void this.#ask(this.#id, nodes).then(() => {
      this.#expect();
    });
  }

  /** It stands in line as one who is called, and has to do so as one who polls. */
  onUnheard(): void {
    if (this.#ticketMs !== undefined) this.hurry();
  }

  /**
   * Attempts when a quorum of the nodes should be free; the later, the more stand before it. One who is not
   * called asks again the sooner, the nearer its turn is, and the later, the longer the line stands still.
   *
   * @param pauseMs before the first in line attempts, and once more for each that stands before
   */
  #expect(pauseMs = 0): void {
    const { nodes, pace, wakeUps, environment } = this.#shared;
    const told = [...this.#told.values()].sort((a, b) => a.freeMs - b.freeMs);
    const last = told[quorumOf(nodes.length) - 1];
    if (last === undefined) return;
    const rank = Math.min(...told.map((one) => one.rank));
    if (last.freeMs < Infinity) {
      const spreadMs = rank * Math.max(pace.slowestMs, 1, pauseMs) + pauseMs;
      this.#attemptWithin(last.freeMs + spreadMs - environment.monotonicMs());
    }
    if (wakeUps.isHeard) return;
    const growth = rank === 0 ? NEXT_POLL_GROWTH : POLL_GROWTH;
    this.#stillMs =
      rank === this.#rank ? growth * this.#stillMs : Math.max(LEAST_POLL_MS, pace.slowestMs);
    this.#rank = rank;
    this.#attemptWithin(this.#stillMs * (rank + 1));
  }

  #attemptWithin(ms: number): void {
    const atMs = this.#shared.environment.monotonicMs() + ms;
    if (atMs >= this.#attemptAtMs) return;
    this.#attemptAtMs = atMs;
    this.#wake?.();
  }
}

/** Asks a node for what nobody waits for. */
function tell(node: Node, operation: Operation): void {
  if (node.refusal() !== undefined) return;
  node.perform(operation, () => true).catch(() => undefined);
}
