import { type Lock, partsOf } from "../lock.js";
import type { Node } from "../nodes/node.js";
import type { Operation } from "../operations/operation.js";
import type { QueueEntry, QueueKeys } from "../operations/queue.js";
import type { History } from "../quorum/history.js";
import type { Round } from "../quorum/round.js";
import type { Instant } from "../runtime/environment.js";
import { queueKeysOf } from "../waiting/queue-keys.js";
import type { Place } from "../waiting/schedule.js";
import type { Position, Progress, QueuedAttempt, Wait } from "../waiting/wait.js";
import type { Acquisition } from "./call.js";
import { giveKeys } from "./give.js";
import { joinRequest, leaveRequests } from "./requests.js";
import { publishHandOver } from "./tracing.js";

type Attempt = (
  call: Acquisition,
  queued: QueuedAttempt | undefined,
  onRound: (round: Round) => void,
) => Promise<Lock | undefined>;

/** A call that waits, as its waiter sees it. Thousands may wait: a class, so that they have no closures of their own. */
export class QueuedCall implements Wait {
  readonly #call: Acquisition;
  readonly #attempt: Attempt;
  #queueKeys: QueueKeys | undefined;

  constructor(call: Acquisition, attempt: Attempt) {
    this.#call = call;
    this.#attempt = attempt;
  }

  get queueName(): string {
    return this.#call.queueName;
  }

  // Made once they are needed: most waiters wait behind another one of their process.
  get queueKeys(): QueueKeys {
    return (this.#queueKeys ??= queueKeysOf(this.#call.keys) ?? []);
  }

  get shared(): boolean {
    return this.#call.settings.shared;
  }

  get start(): Instant {
    return this.#call.start;
  }

  get history(): History {
    return this.#call.history;
  }

  get retries(): number {
    return this.#call.retries;
  }

  get mostDelayMs(): number {
    const { retryDelay, retryJitter } = this.#call.settings;
    return retryDelay + retryJitter;
  }

  get timeLeftMs(): number {
    return this.#call.budgetLeftMs;
  }

  get nodeTimeoutMs(): (node: Node) => number {
    return this.#call.nodeTimeoutMs;
  }

  get signals(): readonly AbortSignal[] {
    return this.#call.signals;
  }

  nextDelayMs(): number {
    return this.#call.nextDelayMs();
  }

  attempt(
    queued: QueuedAttempt | undefined,
    onRound: (round: Round) => void,
  ): Promise<Lock | undefined> {
    return this.#attempt(this.#call, queued, onRound);
  }

  onQueued(position: Position): void {
    this.#call.position = position;
  }

  onNotified(node: Node, key: string | undefined): void {
    this.#call.permits?.onNotified(key);
    publishHandOver(this.#call, node);
  }

  onGivenUp(progress: Progress): void {
    this.#call.progress = progress;
  }

  join(entry: QueueEntry): Operation {
    return joinRequest(this.#call, this.queueKeys, entry);
  }

  leave(id: string, lock?: Lock): readonly Operation[] {
    return leaveRequests(this.#call, this.queueKeys, id, lock);
  }

  placesFor(places: readonly Place[], quorum: number): readonly Place[] {
    return this.#call.permits?.narrow(places, quorum) ?? places;
  }

  give(lock: Lock, node: Node): void {
    giveKeys(node, partsOf(lock, "acquire"));
  }
}
