import type { Environment, Timer } from "../runtime/environment.js";
import { noAnswerIn } from "../errors.js";
import type { Node } from "../nodes/node.js";
import { Ballot, isRefusal, outOfTime, type Poll, type Question } from "./ballot.js";
import type { ExecutionStats } from "./results.js";

/**
 * Source: the Redlock description, step 3: the lock is acquired if "the majority of the instances (at
 * least 3)" of 5 gave it, that is N/2 + 1.
 */
export function quorumOf(nodeCount: number): number {
  return Math.floor(nodeCount / 2) + 1;
}

/**
 * One operation asked of every node at once: one vote a node, each within the node's own timeout.
 *
 * Decided as soon as a majority is for it, or so many are against that none can be; no later vote
 * changes that. It goes on counting until every node has voted, for the statistics.
 */
export class Round {
  readonly #question: Question;
  readonly #environment: Environment;
  readonly #startMs: number;
  /** When an undecided round is refused. */
  readonly #endMs: number;
  #askedMs = 0;
  readonly #ballots: readonly Ballot[];
  readonly #quorum: number;
  #for = 0;
  #against = 0;
  #doubtful = 0;
  #verdict: boolean | undefined;
  #timer: Timer | undefined;
  readonly #watchers: (() => void)[] = [];
  #onVoteAgainst: ((error: Error, node: Node) => void) | undefined;

  constructor(question: Question, environment: Environment) {
    this.#question = question;
    this.#environment = environment;
    this.#startMs = environment.monotonicMs();
    this.#endMs = this.#startMs + (question.limitMs ?? Infinity);
    this.#quorum = quorumOf(question.nodes.length);
    const poll: Poll = {
      question,
      isUndecided: () => this.#verdict === undefined,
      count: (ballot, vote) => {
        this.#count(ballot, vote);
      },
      doubt: (ballot) => {
        ballot.isDoubtful = true;
        this.#doubtful += 1;
        this.#settleDoubts();
      },
    };
    this.#ballots = question.nodes.map((node) => new Ballot(node, poll));
    const hasTime = this.#startMs < this.#endMs;
    for (const ballot of this.#ballots) {
      if (hasTime) ballot.ask();
      else this.#count(ballot, ballot.refusal() ?? outOfTime(ballot.node));
    }
    // The nodes have their time from when they are asked, which is at the end of the turn.
    if (!this.#complete) environment.endOfTurn(this.#startTimer);
  }

  /** Whether a quorum voted for it, as soon as that is certain. */
  decided(): Promise<boolean> {
    return this.#when(() => this.#verdict);
  }

  /** Ends an undecided round as refused. */
  cut(): void {
    if (this.#verdict !== undefined) return;
    this.#verdict = false;
    this.#notify();
  }

  /** Resolves once every node has voted, or its time was over. */
  complete(): Promise<true> {
    return this.#when(() => this.#complete || undefined);
  }

  /** The votes, once all are in. */
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
   * Whether the nodes that voted for it, or against it with an error of which `counts` is true, are
   * together a quorum, as soon as that is certain.
   */
  quorumWith(counts: (error: Error) => boolean): Promise<boolean> {
    return this.#when(() => {
      const counted = this.#for + this.#votesAgainst(counts);
      if (counted >= this.#quorum) return true;
      return this.#canStillBe(this.#for + this.#against - counted) ? undefined : false;
    });
  }

  /** Whether so many have voted against with such an error that no round like this can reach a quorum. */
  isHopeless(because: (error: Error) => boolean): boolean {
    return !this.#canStillBe(this.#votesAgainst(because));
  }

  #votesAgainst(because: (error: Error) => boolean): number {
    return this.#ballots.filter(({ vote }) => isRefusal(vote) && because(vote)).length;
  }

  /** Whether a quorum is left where this many are not for it. */
  #canStillBe(votesAgainst: number): boolean {
    return votesAgainst <= this.#ballots.length - this.#quorum;
  }

  /** Ms since the nodes were asked. */
  get elapsedMs(): number {
    return this.#environment.monotonicMs() - this.#startMs;
  }

  /** Whether it was ended undecided, by its limit or its caller. */
  get wasCut(): boolean {
    return this.#verdict === false && this.#canStillBe(this.#against);
  }

  /** Each node with its vote so far, in the order of the nodes. */
  get ballots(): readonly Readonly<Ballot>[] {
    return this.#ballots;
  }

  /** Calls `listener` for each vote against, for those already counted at once. */
  eachVoteAgainst(listener: (error: Error, node: Node) => void): void {
    for (const { vote, node } of this.#ballots) if (isRefusal(vote)) listener(vote, node);
    if (!this.#complete) this.#onVoteAgainst = listener;
  }

  /** Whether this node was asked and has not answered yet, so that it may still act on it. */
  isInFlight(node: Node): boolean {
    return this.#ballots.some((ballot) => ballot.node === node && ballot.asked && !ballot.answered);
  }

  get #complete(): boolean {
    return this.#for + this.#against === this.#ballots.length;
  }

  #count(ballot: Ballot, vote: "for" | Error): void {
    if (ballot.vote !== undefined) return;
    ballot.vote = vote;
    if (vote === "for") this.#for += 1;
    else this.#against += 1;
    if (this.#for >= this.#quorum) this.#verdict ??= true;
    else if (!this.#canStillBe(this.#against)) this.#verdict ??= false;
    this.#notify();
    if (vote !== "for") {
      this.#question.onRefusal?.(vote, ballot.node);
      this.#onVoteAgainst?.(vote, ballot.node);
    }
    if (this.#complete) this.#end();
    if (ballot.isDoubtful) this.#doubtful -= 1;
    else if (this.#doubtful > 0) this.#settleDoubts();
  }

  /** Nobody is told of anything more. A lock keeps its rounds: what they no longer need costs memory, and so time. */
  #end(): void {
    if (this.#timer !== undefined) this.#environment.clearTimer(this.#timer);
    this.#onVoteAgainst = undefined;
    this.#watchers.length = 0;
  }

  /** Counts the doubtful that are exempt by now, and all of them once the others have voted. */
  #settleDoubts(): void {
    const isLast = this.#for + this.#against + this.#doubtful === this.#ballots.length;
    for (const ballot of this.#ballots.filter(({ isDoubtful }) => isDoubtful)) {
      const doubt = ballot.node.distrust();
      if (doubt === undefined || isLast) this.#count(ballot, doubt ?? "for");
    }
  }

  readonly #startTimer = (): void => {
    this.#askedMs = this.#environment.monotonicMs();
    this.#setTimer(this.#askedMs);
  };

  /** One timer for all nodes: to the next moment at which a node's time, or the round's own, is over. */
  #setTimer(nowMs: number): void {
    if (this.#complete) return;
    let nextMs = this.#verdict === undefined ? this.#endMs : Infinity;
    for (const { vote, timeoutMs } of this.#ballots) {
      if (vote === undefined) nextMs = Math.min(nextMs, this.#askedMs + timeoutMs);
    }
    // A busy process finds its timers due before it has read the answers that already came.
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
        this.#count(ballot, ballot.node.distrust() ?? "for");
        continue;
      }
      ballot.node.fellSilent();
      this.#count(ballot, noAnswerIn(ballot.timeoutMs, ballot.node.name));
    }
    if (nowMs >= this.#endMs) this.cut();
    this.#setTimer(nowMs);
  }

  /** Resolves with what `read` gives as soon as it gives something; it is read anew after each vote. */
  #when<T>(read: () => T | undefined): Promise<T> {
    const now = read();
    if (now !== undefined) return Promise.resolve(now);
    return new Promise((resolve) => {
      this.#watchers.push(() => {
        const value = read();
        if (value !== undefined) resolve(value);
      });
    });
  }

  #notify(): void {
    for (const watch of this.#watchers) watch();
  }
}
