import { Abstention, asError } from "../errors.js";
import type { Inquiry } from "../nodes/coalescer.js";
import type { Node } from "../nodes/node.js";
import type { Operation } from "../operations/operation.js";

/** What every node is asked in a round, and which answers are votes for it. */
export interface Question {
  readonly nodes: readonly Node[];
  readonly operation: (node: Node) => Operation;
  /** What an answer means: undefined is a vote for, an error a vote against. */
  readonly judge: (reply: unknown, node: Node) => Error | undefined;
  /** What the node has to answer in. */
  readonly nodeTimeoutMs: (node: Node) => number;
  /**
   * After this long an undecided round is refused, however long its nodes may still take; where there is
   * no time at all, none is asked.
   */
  readonly limitMs?: number | undefined;
  /** Why a node votes against without being asked, if it does. */
  readonly refusal?: ((node: Node) => Error | undefined) | undefined;
  /** Told of each vote against, as it is counted. */
  readonly onRefusal?: (error: Error, node: Node) => void;
}

/** A node's vote: the error is why it is against; undefined while it has not voted. */
export type Vote = "for" | Error | undefined;

export function isRefusal(vote: Vote): vote is Error {
  return vote !== undefined && vote !== "for";
}

export function outOfTime({ name }: Node): Abstention {
  return new Abstention(name, "no time was left to ask it");
}

/** What a ballot knows of its round. */
export interface Poll {
  readonly question: Question;
  readonly isUndecided: () => boolean;
  readonly count: (ballot: Ballot, vote: "for" | Error) => void;
  /** It is for it, but does not count unless the others turn out to be as young. */
  readonly doubt: (ballot: Ballot) => void;
}

/** One node's part in a round. */
export class Ballot implements Inquiry {
  readonly node: Node;
  readonly operation: Operation;
  readonly timeoutMs: number;
  /** Whether a command may have reached the node. */
  asked = false;
  /** Whether that command is settled: a node may act on one that is not after its time was over. */
  answered = false;
  /** It voted for it, and waits for what the others say of themselves. */
  isDoubtful = false;
  vote: Vote;
  /** What the node answered, if it did, also where that was too late for a vote. */
  reply: unknown;
  readonly #poll: Poll;

  constructor(node: Node, poll: Poll) {
    this.node = node;
    this.operation = poll.question.operation(node);
    this.timeoutMs = poll.question.nodeTimeoutMs(node);
    this.#poll = poll;
  }

  /** Whether it grants something anew, for which a node that may have forgotten cannot vote. */
  get #isGuarded(): boolean {
    return !this.operation.resendUndecided && !this.operation.requiresOwnValue;
  }

  /** Why the node votes against without being asked. */
  refusal(): Error | undefined {
    return (
      this.#poll.question.refusal?.(this.node) ??
      this.node.refusal() ??
      (this.#isGuarded ? this.node.heldBack() : undefined)
    );
  }

  ask(): void {
    const refusal = this.refusal();
    if (refusal !== undefined) {
      this.#poll.count(this, refusal);
      return;
    }
    const connecting = this.node.connecting();
    if (connecting === undefined) {
      this.#askNow();
      return;
    }
    connecting.then(
      () => {
        // A failed attempt's release may be on its way already: nothing may be sent behind it.
        if (this.operation.resendUndecided || this.isUndecided()) this.#askNow();
        else this.#poll.count(this, new Abstention(this.node.name));
      },
      (error: unknown) => {
        this.#poll.count(this, asError(error));
      },
    );
  }

  #askNow(): void {
    this.asked = true;
    this.node.ask(this);
  }

  isUndecided(): boolean {
    return this.#poll.isUndecided();
  }

  onReply(reply: unknown): void {
    this.answered = true;
    this.reply = reply;
    let vote: "for" | Error;
    try {
      vote = this.#poll.question.judge(reply, this.node) ?? "for";
    } catch (error) {
      vote = asError(error);
    }
    const doubt = vote === "for" && this.#isGuarded ? this.node.distrust() : undefined;
    if (doubt !== undefined && this.node.mayBeFresh) this.#poll.doubt(this);
    else this.#poll.count(this, doubt ?? vote);
  }

  onError(error: Error): void {
    this.answered = true;
    this.#poll.count(this, error);
  }
}
