export { type ErrorCode, ExecutionError, NodeError, ResourceLockedError } from "./errors.js";
export type { NodeInspection, ResourceInspection } from "./inspect.js";
export type { RedlockAbortSignal } from "./keeper.js";
export { Lock, type LockIssuer, type LockJson, LockLostError } from "./lock.js";
export type { Client, NodeAddress, RedisClient } from "./node/client.js";
export type { NodeEntry } from "./node/entry.js";
export { Redlock, Redlock as default } from "./redlock.js";
export type { ClientExecutionResult, ExecutionResult, ExecutionStats } from "./results.js";
export type { RedlockSettings, ResolvedSettings, Settings } from "./settings.js";
