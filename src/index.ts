/** @module redlock-quorum */

export { type ErrorCode, ExecutionError, NodeError, ResourceLockedError } from "./errors.js";
export type { NodeHealth } from "./reports/health.js";
export type { NodeInspection, ResourceInspection, WaiterInspection } from "./reports/inspect.js";
export type { RedlockAbortSignal } from "./algorithm/keeper.js";
export { Lock, type LockIssuer, type LockJson, LockLostError } from "./lock.js";
export type {
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
