import { Abstention, asError } from "../errors.js";
import type { Inquiry } from "../nodes/coalescer.js";
import type { Node } from "../nodes/node.js";
import type { Operation } from "../operations/operation.js";

/** What a round asks every node, and which replies count as votes for. */
export interface Question {
  readonly nodes: readonly Node[];
  /** The same for all nodes, or one for each. */
  readonly operation: Operation | ((node: Node) => Operation);
  /** Judges a reply: undefined is a vote for, an error a vote against. */
  readonly judge: (reply: unknown, node: Node) => Error | undefined;
  /** The timeout of a node. */
  readonly nodeTimeoutMs: (node: Node) => number;
  /**
   * A round that is undecided after this time is refused, even if its nodes have time left. With no time at all, no
   * node is asked.
   */
  readonly limitMs?: number | undefined;
  /** Returns why a node votes against without being asked, if it does. */
  readonly refusal?: ((node: Node) => Error | undefined) | undefined;
  /**
   * Returns whether a node that could not run the command yet gets it although the round is decided: a node that connects
   * late, or had not cached the script. By default it does not.
   */
  readonly isWantedLate?: () => boolean;
  /** Called for each vote against, as it is counted. */
  readonly onRefusal?: (error: Error, node: Node) => void;
}

/** A node's vote. An error is a vote against and says why; undefined means that the node has not voted yet. */
export type Vote = "for" | Error | undefined;

export function isRefusal(vote: Vote): vote is Error {
  return vote !== undefined && vote !== "for";
}

export function outOfTime({ name }: Node): Abstention {
  return new Abstention(name, "no time was left to ask it");
}

/** What a ballot needs of its round. */
export interface Poll {
  /** Undefined once every node has had its last word. */
  readonly question: Question | undefined;
  readonly isUndecided: () => boolean;
  readonly count: (ballot: Ballot, vote: "for" | Error) => void;
  /** The node granted the lock, but its vote counts only if a quorum of nodes also started recently. */
  readonly doubt: (ballot: Ballot) => void;
}

/** One node's part in a round. */
export class Ballot implements Inquiry {
  readonly node: Node;
  readonly operation: Operation;
  readonly timeoutMs: number;
  /** Whether a command may have reached the node. */
  asked = false;
  /** Whether the node has had its last word. If not, it may still act on the command after its timeout. */
  isOver = false;
  /** Whether the node granted the lock, but its vote waits until the other nodes say when they started. */
  isDoubtful = false;
  vote: Vote;
  /** The node's reply, even if it came too late for a vote. */
  reply: unknown;
  readonly #poll: Poll;

  constructor(node: Node, { operation, nodeTimeoutMs }: Question, poll: Poll) {
    this.node = node;
    this.operation = typeof operation === "function" ? operation(node) : operation;
    this.timeoutMs = nodeTimeoutMs(node);
    this.#poll = poll;
  }

  /** Whether the operation grants a new lock, so that a node that may have forgotten locks cannot vote for it. */
  get #isGuarded(): boolean {
    return !this.operation.resendUndecided && !this.operation.requiresOwnValue;
  }

  /** Returns why the node votes against without being asked, if it does. */
  refusal(): Error | undefined {
    return (
      this.#poll.question?.refusal?.(this.node) ??
      this.node.refusal() ??
      (this.#isGuarded ? this.node.heldBack() : undefined)
    );
  }

  ask(): void {
    const refusal = this.refusal();
    if (refusal !== undefined) {
      this.end(refusal);
      return;
    }
    const connecting = this.node.connecting();
    if (connecting === undefined) {
      this.#askNow();
      return;
    }
    connecting.then(
      () => {
        // If the attempt has failed, its release may already be on its way. Nothing may be sent after it.
        if (this.operation.resendUndecided || this.isUndecided()) this.#askNow();
        else this.end(new Abstention(this.node.name));
      },
      (error: unknown) => {
        this.end(asError(error));
      },
    );
  }

  #askNow(): void {
    this.asked = true;
    this.node.ask(this);
  }

  isUndecided(): boolean {
    return this.#poll.isUndecided() || this.#poll.question?.isWantedLate?.() === true;
  }

  onReply(reply: unknown): void {
    const { question } = this.#poll;
    // There is a question as long as this ballot is not over.
    if (question === undefined) return;
    this.reply = reply;
    let vote: "for" | Error;
    try {
      vote = question.judge(reply, this.node) ?? "for";
    } catch (error) {
      vote = asError(error);
    }
    const doubt = vote === "for" && this.#isGuarded ? this.node.distrust() : undefined;
    if (doubt !== undefined && this.node.mayBeFresh) {
      this.isOver = true;
      this.#poll.doubt(this);
    } else this.end(doubt ?? vote);
  }

  onError(error: Error): void {
    this.end(error);
  }

  /** Gives the node's vote, after which it has nothing more to say. */
  end(vote: "for" | Error): void {
    this.isOver = true;
    this.#poll.count(this, vote);
  }
}
