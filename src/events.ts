import type { Lock, LockLostError } from "./lock.js";
import type { FailureReason, NodeError } from "./errors.js";

/** A call acquired a lock. */
export interface AcquiredEvent {
  /** The lock. */
  readonly lock: Lock;
  /** Ms from the call to the grant. */
  readonly waitedMs: number;
  /** How many attempts the call made. */
  readonly attempts: number;
}

/** A lock was extended, by a call or by the library. */
export interface ExtendedEvent {
  /** The lock. */
  readonly lock: Lock;
}

/** A lock was released by a call, before it was lost. */
export interface ReleasedEvent {
  /** The lock. */
  readonly lock: Lock;
}

/** A lock was lost. */
export interface LostEvent {
  /** The lock. */
  readonly lock: Lock;
  /** What the lock's signal aborts with. */
  readonly error: LockLostError;
  /** Whether its `toJSON()` was called, so that another process may have adopted it, and hold it still. */
  readonly isPassedOn: boolean;
}

/** A call did not get its lock at the first attempt, and waits for it. */
export interface WaitingEvent {
  /** The names of the resources that it waits for. */
  readonly resources: readonly string[];
}

/** A node cannot be asked: its connection is down, or it did not reply in time. */
export interface NodeDownEvent {
  /** host:port */
  readonly node: string;
  /** What happened. */
  readonly reason: NodeError;
}

/** A node that was down can be asked again. */
export interface NodeUpEvent {
  /** host:port */
  readonly node: string;
  /** Ms since it was found down. */
  readonly downMs: number;
}

/** The events of a Redlock, each with the arguments of its listeners. */
export interface RedlockEvents {
  /** A call acquired a lock. */
  acquired: [event: AcquiredEvent];
  /** A lock was extended. */
  extended: [event: ExtendedEvent];
  /** A lock was released. */
  released: [event: ReleasedEvent];
  /**
   * A lock was lost. A lock that the library does not extend, and whose `signal` nobody has read, is found lost when it
   * is next used, or some time later.
   */
  lost: [event: LostEvent];
  /** A call did not get its lock at the first attempt, and waits. */
  waiting: [event: WaitingEvent];
  /** A node cannot be asked. Emitted once, when a call or an extension finds it so. */
  "node:down": [event: NodeDownEvent];
  /** A node can be asked again. */
  "node:up": [event: NodeUpEvent];
  /** A node voted against an operation, or waiters have to poll there. `node` is its `host:port`. */
  error: [error: Error, node?: string];
}

/** What the messages of all traced calls have. They are live: read what they hold while you handle them. */
export interface CallTrace {
  /** The names of the resources. */
  readonly resources: readonly string[];
  /** The ttl that the call asks for, in ms. */
  readonly ttl: number;
  /** The `owner` of the Redlock: who makes the call. */
  readonly owner: string;
  /** How many attempts the call has made so far. */
  readonly attempts: number;
  /** Ms since the call began. */
  readonly elapsedMs: number;
  /** Why the call failed, once it has. */
  error?: unknown;
}

/** The message of `redlock-quorum:acquire`: one call of `acquire` or `tryAcquire`, the acquisition of a `using`, or a campaign of `lead`. */
export interface AcquireTrace extends CallTrace {
  /** Whether the call waits for a lock that it did not get at its first attempt. */
  readonly isWaiting: boolean;
  /** Its place in the queue while it waits there, as far as this process knows: 1 is next. */
  readonly position: number | undefined;
  /** The lock, once the call has succeeded; null if `tryAcquire` found that others hold it. */
  result?: Lock | null;
}

/** The message of `redlock-quorum:extend`: one call of `extend`, or one extension by the library. */
export interface ExtendTrace extends CallTrace {
  /** The lock that is extended. */
  readonly lock: Lock;
  /** Whether the library extends the lock by itself: for `using`, or with `autoExtend`. */
  readonly isAutomatic: boolean;
  /** The lock, once it is extended; undefined if it was released meanwhile. */
  result?: Lock | undefined;
}

/** The message of `redlock-quorum:release`: one call of `release`, or the release of a `using`. */
export interface ReleaseTrace extends CallTrace {
  /** The lock that is released. From the channel's `end` on, it is no longer valid. */
  readonly lock: Lock;
}

/** The message of `redlock-quorum:using`: one call of `using`, with its acquisition, its routine and its release. */
export interface UsingTrace extends CallTrace {
  /** What the routine returned. */
  result?: unknown;
}

/** The message of `redlock-quorum:lead`: one term of a leader, from its election to its release. */
export interface LeadTrace extends CallTrace {
  /** The lock that makes it the leader. */
  readonly lock: Lock;
  /** What the routine returned, unless the term was lost. */
  result?: unknown;
}

/** The message of `redlock-quorum:lost`: a lock was lost. */
export interface LostMessage extends LostEvent {
  /** The names of the resources. */
  readonly resources: readonly string[];
  /** The ttl in force, in ms. */
  readonly ttl: number;
  /** The `owner` of the Redlock that acquired the lock. */
  readonly owner: string;
  /** `expired`, or `closed` if the Redlock was closed before the lock was released. */
  readonly reason: FailureReason;
}

/**
 * Why a node voted against. `held`: another lock holds a resource; for an extension or a release, this lock no longer
 * does. `timeout`: no reply in time. `down`: no connection. `held-back`: the restart guard holds the node back.
 * `refused`: the server replied with an error.
 */
export type VoteKind = "held" | "timeout" | "down" | "held-back" | "refused";

/** The message of `redlock-quorum:vote`: a node voted against. */
export interface VoteMessage {
  /** host:port */
  readonly node: string;
  /** How the node failed to vote for. */
  readonly kind: VoteKind;
  /** The vote, as the event `error` has it. */
  readonly reason: Error;
}

/** The message of `redlock-quorum:waiting`: a call did not get its lock at the first attempt, and waits for it. */
export type WaitingMessage = Omit<AcquireTrace, "result" | "error">;

/** The message of `redlock-quorum:hand-over`: a node told a waiter of this process that it is next. */
export interface HandOverMessage {
  /** host:port */
  readonly node: string;
  /** The names of the resources that the waiter waits for. */
  readonly resources: readonly string[];
  /** Ms since the waiter's call began. */
  readonly waitedMs: number;
}

/**
 * The message of `redlock-quorum:node`: a node cannot be asked (`down`), can be asked again (`up`), or the restart guard
 * does not count its votes for acquisitions (`held-back`). Each is published once, when a call finds it so.
 */
export type NodeMessage =
  | {
      /** host:port */
      readonly node: string;
      /** What the node is now. */
      readonly state: "down" | "held-back";
      /** What happened. */
      readonly reason: NodeError;
    }
  | {
      /** host:port */
      readonly node: string;
      /** What the node is now. */
      readonly state: "up";
      /** Ms since it was found down. */
      readonly downMs: number;
    };

/** The tracing channels of node:diagnostics_channel, each with its message. */
export interface RedlockTraces {
  /** A call of `acquire` or `tryAcquire`, or the acquisition of a `using`. */
  "redlock-quorum:acquire": AcquireTrace;
  /** An extension, by a call or by the library. */
  "redlock-quorum:extend": ExtendTrace;
  /** A release. */
  "redlock-quorum:release": ReleaseTrace;
  /** A call of `using`, from the acquisition to the release. */
  "redlock-quorum:using": UsingTrace;
  /** One term of `lead`, from the election to the release. */
  "redlock-quorum:lead": LeadTrace;
}

/** The other channels of node:diagnostics_channel, each with its message. */
export interface RedlockMessages {
  /** A lock was lost. */
  "redlock-quorum:lost": LostMessage;
  /** A node voted against. */
  "redlock-quorum:vote": VoteMessage;
  /** A call begins to wait. */
  "redlock-quorum:waiting": WaitingMessage;
  /** A node told a waiter that it is next. */
  "redlock-quorum:hand-over": HandOverMessage;
  /** A node went down or came back, or is held back. */
  "redlock-quorum:node": NodeMessage;
}
