import type { Lock, LockLostError } from "./lock.js";
import type { NodeError } from "./errors.js";

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
