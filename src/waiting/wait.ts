import type { Environment, Instant } from "../runtime/environment.js";
import type { Lock } from "../lock.js";
import type { Node } from "../nodes/node.js";
import type { Operation } from "../operations/operation.js";
import type { QueueKeys, QueueReply, QueueEntry } from "../operations/queue.js";
import type { History } from "../quorum/history.js";
import type { Round } from "../quorum/round.js";
import type { NodeClocks } from "./node-clocks.js";
import type { Pace } from "./pace.js";
import type { Place } from "./schedule.js";
import type { Subscriptions } from "./subscriptions.js";
import type { Waiter } from "./waiter.js";

/** How far a waiter came in the queue that gave up. */
export interface Progress {
  /** How many waiters were before it when it began to wait, as far as its process knew; and when it gave up. */
  readonly aheadThen: number;
  readonly ahead: number;
}

/** Where a waiter is in the queue. */
export interface Position {
  /** How many waiters are before it, as far as its process knows. */
  readonly ahead: number;
}

/** What a waiter needs of its call. */
export interface Wait {
  /** Waiters of one process with the same name have one place in the queue on the nodes between them. */
  readonly queueName: string;
  readonly queueKeys: QueueKeys;
  /** Whether it waits to read. */
  readonly shared: boolean;
  /** When the call began: first come, first served. */
  readonly start: Instant;
  readonly history: History;
  readonly retries: number;
  /** Milliseconds until the next attempt of the retry timer, drawn each time; and the most that this may be. */
  nextDelayMs(): number;
  readonly mostDelayMs: number;
  /** How many ms it may still wait. Changes with the time: a waiter reads it each time. */
  readonly timeLeftMs: number;
  readonly nodeTimeoutMs: (node: Node) => number;
  readonly signals: readonly AbortSignal[];
  /** Makes one attempt; with `queued`, as a waiter in the queue. Calls `onRound` before any node replies. */
  attempt(
    queued: QueuedAttempt | undefined,
    onRound: (round: Round) => void,
  ): Promise<Lock | undefined>;
  /** Called when it is in the queue. */
  onQueued(position: Position): void;
  /** Called for each node that notifies it. */
  onNotified(node: Node, key: string | undefined): void;
  /** Called when the time or the retries are used up. */
  onGivenUp(progress: Progress): void;
  /** Asks a node for a place in the queue. */
  join(entry: QueueEntry): Operation;
  /** Takes it out of a node's queue. With a `lock`, the keys that were reserved for it become free for that lock. */
  leave(id: string, lock?: Lock): readonly Operation[];
  /** Its places as a waiter for what the next attempt takes: of several permits, that may be one of the slots. */
  placesFor(places: readonly Place[], quorum: number): readonly Place[];
  /** Gives a node the keys of the lock that was acquired, if they are free there. */
  give(lock: Lock, node: Node): void;
}

/** How the attempt of a waiter in the queue differs from another. */
export interface QueuedAttempt {
  readonly keys: QueueKeys;
  readonly entryFor: (node: Node) => QueueEntry;
  /** Called for each node that refuses the attempt. */
  readonly onQueueReply: (node: Node, reply: QueueReply) => void;
}

/** Everything that the waiters of one Redlock share. */
export interface Shared {
  readonly nodes: readonly Node[];
  readonly environment: Environment;
  readonly subscriptions: Subscriptions;
  readonly clocks: NodeClocks;
  readonly pace: Pace;
  /** Called for each node that refuses a place in the queue. */
  readonly onRefusal: (error: Error, node: Node) => void;
}

/** The local queue of a waiter, as the waiter sees it. */
export interface LocalWaiters {
  /** Returns how many waiters are before one of them, as far as this process knows. */
  aheadOf(waiter: Waiter): number;
  /** Lets the first waiter attempt now. */
  hurry(): void;
  /** The last attempt of any waiter in this queue. */
  lastAttempt: { readonly round: Round; readonly atMs: number } | undefined;
}
