import type { Connection } from "../../../src/clients/connection.js";
import type { Argument } from "../../../src/operations/operation.js";
import type { Reply } from "../../../src/testing/redis/reply.js";

/** A command that was sent and is not answered. */
export interface Pending {
  readonly command: string;
  readonly args: readonly string[];
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

export interface Answer {
  readonly pending: Pending;
  readonly reply: Reply | Error;
}

/** A client's connection to a node: in order in either direction, and moved by whoever searches. */
export class Wire implements Connection {
  readonly name: string;
  state: Connection["state"] = "ready";
  epoch = 1;
  readonly openedMs = 0;
  readonly isCluster = false;
  failure: Error | undefined;
  /** On their way. */
  requests: Pending[] = [];
  replies: Answer[] = [];
  /** What is sent in this direction is lost until the connection is closed. */
  losesRequests = false;
  losesReplies = false;
  #unanswered: Pending[] = [];
  #waiters: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];

  constructor(name: string) {
    this.name = name;
  }

  get keyspace(): string {
    return this.name;
  }

  get isLost(): boolean {
    return this.losesRequests || this.losesReplies;
  }

  get isWaiting(): boolean {
    return this.#unanswered.length > 0;
  }

  send(command: string, args: readonly Argument[]): Promise<unknown> {
    if (this.state !== "ready") return Promise.reject(new Error("Connection is closed."));
    return new Promise<Reply>((resolve, reject) => {
      const pending = { command, args: args.map(String), resolve, reject };
      this.#unanswered.push(pending);
      if (!this.losesRequests) this.requests.push(pending);
    });
  }

  opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  renew(): void {
    this.close();
  }

  quit(): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  disconnect(): void {
    this.close();
  }

  loseRequests(): void {
    this.losesRequests = true;
    this.requests = [];
  }

  loseReplies(): void {
    this.losesReplies = true;
    this.replies = [];
  }

  /** The next answer arrives. */
  answer(): Answer {
    const answer = this.replies.shift();
    if (answer === undefined || this.#unanswered.shift() !== answer.pending) {
      throw new Error("the simulated connection mixed up its replies");
    }
    if (answer.reply instanceof Error) answer.pending.reject(answer.reply);
    else answer.pending.resolve(answer.reply);
    return answer;
  }

  /** What is on its way is lost, and the client sees it at once. */
  close(): void {
    this.state = "down";
    this.failure = new Error("Connection is closed.");
    this.losesRequests = false;
    this.losesReplies = false;
    this.requests = [];
    this.replies = [];
    const unanswered = this.#unanswered;
    this.#unanswered = [];
    for (const { reject } of unanswered) reject(new Error("Connection is closed."));
    for (const { reject } of this.#takeWaiters()) reject(this.failure);
  }

  open(): void {
    this.state = "ready";
    this.failure = undefined;
    this.epoch += 1;
    for (const { resolve } of this.#takeWaiters()) resolve();
  }

  #takeWaiters(): { readonly resolve: () => void; readonly reject: (error: Error) => void }[] {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }
}
