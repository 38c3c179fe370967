/** @module redlock-quorum */

export {
  type ErrorCode,
  ExecutionError,
  type FailureReason,
  NodeError,
  ResourceLockedError,
} from "./errors.js";
export type {
  AcquireTrace,
  AcquiredEvent,
  CallTrace,
  ExtendTrace,
  ExtendedEvent,
  HandOverMessage,
  LeadTrace,
  LostEvent,
  LostMessage,
  NodeDownEvent,
  NodeMessage,
  NodeUpEvent,
  RedlockEvents,
  RedlockMessages,
  RedlockTraces,
  ReleaseTrace,
  ReleasedEvent,
  UsingTrace,
  VoteKind,
  VoteMessage,
  WaitingEvent,
  WaitingMessage,
} from "./events.js";
export type { ForcedRelease } from "./reports/force-release.js";
export type { Holder } from "./reports/holder.js";
export type { NodeHealth, NodeProblem } from "./reports/health.js";
export type { QueryOptions } from "./reports/query.js";
export type {
  NodeInspection,
  ReaderInspection,
  ResourceInspection,
  WaiterInspection,
} from "./reports/inspect.js";
export {
  Lock,
  type LockIssuer,
  type LockJson,
  LockLostError,
  type RedlockAbortSignal,
} from "./lock.js";
export type {
  BunRedisClient,
  Client,
  ClientOf,
  NodeAddress,
  NodeRedisClient,
  RedisClient,
} from "./clients/client.js";
export type { NodeEntry } from "./nodes/entries.js";
export { Redlock, Redlock as default } from "./redlock.js";
export type { ClientExecutionResult, ExecutionResult, ExecutionStats } from "./quorum/results.js";
export type { RedlockSettings, ResolvedSettings, Settings } from "./settings.js";
