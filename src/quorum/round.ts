import type { Environment, Timer } from "../runtime/environment.js";
import { noAnswerIn } from "../errors.js";
import type { Node } from "../nodes/node.js";
import { Ballot, isRefusal, outOfTime, type Poll, type Question } from "./ballot.js";
import type { ExecutionStats } from "./results.js";

/**
 * Returns how many votes decide.
 *
 * Source: the Redlock description, step 3: the client holds the lock if it acquired it "in the majority of the
 * instances (at least 3)" of 5, that is N/2 + 1.
 */
export function quorumOf(nodeCount: number): number {
  return Math.floor(nodeCount / 2) + 1;
}

/**
 * Asks every node the same at once, and counts one vote per node, each within the node's own timeout.
 *
 * The round is decided as soon as a majority has voted for, or so many against that no majority is possible. No later
 * vote changes that. The round goes on counting until every node has voted, for the statistics.
 */
export class Round implements Poll {
  question: Question | undefined;
  readonly #environment: Environment;
  readonly #startMs: number;
  /** When an undecided round counts as refused. */
  readonly #endMs: number;
  #askedMs = 0;
  readonly #ballots: readonly Ballot[];
  readonly #quorum: number;
  #for = 0;
  #against = 0;
  #doubtful = 0;
  #verdict: boolean | undefined;
  #timer: Timer | undefined;
  #onDecided: ((granted: boolean) => void)[] | undefined;
  #watchers: (() => void)[] | undefined;
  #onVoteAgainst: ((error: Error, node: Node) => void) | undefined;

  constructor(question: Question, environment: Environment) {
    this.question = question;
    this.#environment = environment;
    this.#startMs = environment.monotonicMs();
    this.#endMs = this.#startMs + (question.limitMs ?? Infinity);
    this.#quorum = quorumOf(question.nodes.length);
    this.#ballots = question.nodes.map((node) => new Ballot(node, question, this));
    const hasTime = this.#startMs < this.#endMs;
    for (const ballot of this.#ballots) {
      if (hasTime) ballot.ask();
      else ballot.end(ballot.refusal() ?? outOfTime(ballot.node));
    }
    // The nodes' timeouts begin when the commands are sent, at the end of the event-loop turn.
    if (!this.#complete) {
      environment.endOfTurn(() => {
        this.#startTimer();
      });
    }
  }

  /** Resolves with whether a quorum voted for, as soon as that is certain. */
  decided(): Promise<boolean> {
    return new Promise((resolve) => {
      this.onDecided(resolve);
    });
  }

  /** Calls back with whether a quorum voted for, once that is certain. */
  onDecided(callback: (granted: boolean) => void): void {
    if (this.#verdict !== undefined) callback(this.#verdict);
    else this.#onDecided = withAnother(this.#onDecided, callback);
  }

  #decide(granted: boolean): void {
    if (this.#verdict !== undefined) return;
    this.#verdict = granted;
    for (const callback of this.#onDecided ?? []) callback(granted);
    this.#onDecided = undefined;
  }

  /** Ends an undecided round as refused. */
  cut(): void {
    this.#decide(false);
  }

  /** Resolves once every node has voted or timed out. */
  complete(): Promise<true> {
    return this.#when(() => this.#complete || undefined);
  }

  /** Resolves with the votes once all are in. */
  async stats(): Promise<ExecutionStats> {
    await this.complete();
    const stats: ExecutionStats = {
      membershipSize: this.#ballots.length,
      quorumSize: this.#quorum,
      votesFor: new Set(),
      votesAgainst: new Map(),
    };
    for (const { node, vote } of this.#ballots) {
      if (vote === "for") stats.votesFor.add(node.client);
      else if (vote !== undefined) stats.votesAgainst.set(node.client, vote);
    }
    return stats;
  }

  /**
   * Resolves with whether a quorum of nodes voted for, or against with an error for which `counts` returns true, as soon
   * as that is certain.
   */
  quorumWith(counts: (error: Error) => boolean): Promise<boolean> {
    return this.#when(() => {
      const counted = this.#for + this.#votesAgainst(counts);
      if (counted >= this.#quorum) return true;
      return this.#canStillBe(this.#for + this.#against - counted) ? undefined : false;
    });
  }

  /** Returns whether so many nodes voted against with such an error that no round like this one can reach a quorum. */
  isHopeless(because: (error: Error) => boolean): boolean {
    return !this.#canStillBe(this.#votesAgainst(because));
  }

  #votesAgainst(because: (error: Error) => boolean): number {
    return this.#ballots.filter(({ vote }) => isRefusal(vote) && because(vote)).length;
  }

  /** Whether a quorum is still possible with this many votes against. */
  #canStillBe(votesAgainst: number): boolean {
    return votesAgainst <= this.#ballots.length - this.#quorum;
  }

  /** Milliseconds since the round began. */
  get elapsedMs(): number {
    return this.#environment.monotonicMs() - this.#startMs;
  }

  /** Whether its limit or its caller ended it while it was undecided. */
  get wasCut(): boolean {
    return this.#verdict === false && this.#canStillBe(this.#against);
  }

  /** The votes so far, in the order of the nodes. */
  get ballots(): readonly Readonly<Ballot>[] {
    return this.#ballots;
  }

  /** Calls `listener` for each vote against: now for those already counted, later for the others. */
  eachVoteAgainst(listener: (error: Error, node: Node) => void): void {
    for (const { vote, node } of this.#ballots) if (isRefusal(vote)) listener(vote, node);
    if (!this.#complete) this.#onVoteAgainst = listener;
  }

  /** Returns whether this node was asked and has not replied, so that it may still act on the command. */
  isInFlight(node: Node): boolean {
    return this.#ballots.some((ballot) => ballot.node === node && ballot.asked && !ballot.isOver);
  }

  get #complete(): boolean {
    return this.#for + this.#against === this.#ballots.length;
  }

  /** Counts a vote, once for each ballot. */
  count(ballot: Ballot, vote: "for" | Error): void {
    if (ballot.vote !== undefined) {
      this.#dropQuestion();
      return;
    }
    ballot.vote = vote;
    if (vote === "for") this.#for += 1;
    else this.#against += 1;
    if (this.#for >= this.#quorum) this.#decide(true);
    else if (!this.#canStillBe(this.#against)) this.#decide(false);
    this.#notify();
    if (vote !== "for") {
      this.question?.onRefusal?.(vote, ballot.node);
      this.#onVoteAgainst?.(vote, ballot.node);
    }
    if (this.#complete) this.#end();
    if (ballot.isDoubtful) this.#doubtful -= 1;
    else if (this.#doubtful > 0) this.#settleDoubts();
  }

  isUndecided(): boolean {
    return this.#verdict === undefined;
  }

  doubt(ballot: Ballot): void {
    ballot.isDoubtful = true;
    this.#doubtful += 1;
    this.#settleDoubts();
  }

  /** Drops what a complete round no longer needs. A lock keeps its rounds, and memory that is kept costs time. */
  #end(): void {
    if (this.#timer !== undefined) this.#environment.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#onVoteAgainst = undefined;
    this.#watchers = undefined;
    this.#dropQuestion();
  }

  /**
   * Drops the question once no node will say more. A question knows its call, whose history may hold the round of
   * another call, and so on: calls that follow one another without a pause would all be kept.
   */
  #dropQuestion(): void {
    if (this.#complete && this.#ballots.every(({ isOver }) => isOver)) this.question = undefined;
  }

  /** Counts the doubtful votes that have become certain, and all of them once every other node has voted. */
  #settleDoubts(): void {
    const isLast = this.#for + this.#against + this.#doubtful === this.#ballots.length;
    for (const ballot of this.#ballots.filter(({ isDoubtful }) => isDoubtful)) {
      const doubt = ballot.node.distrust();
      if (doubt === undefined || isLast) this.count(ballot, doubt ?? "for");
    }
  }

  #startTimer(): void {
    this.#askedMs = this.#environment.monotonicMs();
    this.#setTimer(this.#askedMs);
  }

  /** Sets the one timer of all nodes, for the next timeout of a node or of the round itself. */
  #setTimer(nowMs: number): void {
    if (this.#complete) return;
    let nextMs = this.#verdict === undefined ? this.#endMs : Infinity;
    for (const { vote, timeoutMs } of this.#ballots) {
      if (vote === undefined) nextMs = Math.min(nextMs, this.#askedMs + timeoutMs);
    }
    // In a busy process a timer may fire before replies that have already arrived were read.
    this.#timer = this.#environment.setTimer(
      () => {
        this.#environment.afterPoll(() => {
          this.#onTimer();
        });
      },
      Math.max(0, Math.ceil(nextMs - nowMs)),
    );
  }

  #onTimer(): void {
    const nowMs = this.#environment.monotonicMs();
    for (const ballot of this.#ballots) {
      if (ballot.vote !== undefined || this.#askedMs + ballot.timeoutMs > nowMs) continue;
      if (ballot.isDoubtful) {
        this.count(ballot, ballot.node.distrust() ?? "for");
        continue;
      }
      ballot.node.fellSilent();
      this.count(ballot, noAnswerIn(ballot.timeoutMs, ballot.node.name));
    }
    if (nowMs >= this.#endMs) this.cut();
    this.#setTimer(nowMs);
  }

  /** Resolves with the first result of `read` that is not undefined. `read` runs now and after each vote. */
  #when<T>(read: () => T | undefined): Promise<T> {
    const now = read();
    if (now !== undefined) return Promise.resolve(now);
    return new Promise((resolve) => {
      const watch = (): void => {
        const value = read();
        if (value !== undefined) resolve(value);
      };
      this.#watchers = withAnother(this.#watchers, watch);
    });
  }

  #notify(): void {
    if (this.#watchers === undefined) return;
    for (const watch of this.#watchers) watch();
  }
}

/** Adds an item, which is mostly the first one. */
export function withAnother<Item>(items: Item[] | undefined, item: Item): Item[] {
  // To push it onto an empty array would reserve room for sixteen more.
  if (items === undefined) return [item];
  items.push(item);
  return items;
}
