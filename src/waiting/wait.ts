import type { Environment, Instant } from "../runtime/environment.js";
import type { Lock } from "../lock.js";
import type { Node } from "../nodes/node.js";
import type { QueueKeys, QueueReply, Standing } from "../operations/queue.js";
import type { History } from "../quorum/history.js";
import type { Round } from "../quorum/round.js";
import type { NodeClocks } from "./node-clocks.js";
import type { Pace } from "./pace.js";
import type { Subscriptions } from "./subscriptions.js";

/** A call that waits, and how it attempts. */
export interface Wait {
  /** Of the locks that it waits for. */
  readonly keys: readonly string[];
  readonly lineKeys: QueueKeys;
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
  /** Attempts; with `stand` as one who stands in the queue. Gives its round before anything is answered. */
  readonly attempt: (
    stand: Stand | undefined,
    onRound: (round: Round) => void,
  ) => Promise<Lock | undefined>;
  /** Gives a node the key of the lock that was acquired, where it is free there. */
  readonly give: (lock: Lock, node: Node) => void;
}

/** How a waiter's attempt differs. */
export interface Stand {
  readonly keys: QueueKeys;
  readonly standing: (node: Node) => Standing;
  /** Told what each node says that refuses it. */
  readonly onTold: (node: Node, told: QueueReply) => void;
}

/** What the waiters of one Redlock share. */
export interface Shared {
  readonly nodes: readonly Node[];
  readonly environment: Environment;
  readonly subscriptions: Subscriptions;
  readonly clocks: NodeClocks;
  readonly pace: Pace;
  /** Told of each node that refuses a place in line, and why. */
  readonly onRefusal: (error: Error, node: Node) => void;
}

/** The waiters of one process for the same keys, as one of them sees them. */
export interface Companions {
  /** Makes the first attempt soon. */
  hurry(): void;
  /** Of any of them. */
  lastAttempt: { readonly round: Round; readonly atMs: number } | undefined;
}
