/**
 * A module for NestJS, which provides a `Redlock`, and a decorator that runs methods under locks.
 *
 * @module redlock-quorum/nestjs
 */

export { currentLock, lockSignal } from "./current-lock.js";
export { Locked, type LockedDecorator, type LockedSettings } from "./locked.js";
export {
  RedlockModule,
  type RedlockModuleAsyncOptions,
  type RedlockModuleExtras,
  type RedlockOptionsFactory,
} from "./module.js";
export type { RedlockModuleOptions } from "./application-redlock.js";
export { getRedlockToken, InjectRedlock, type RedlockToken } from "./token.js";
