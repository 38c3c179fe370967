import { type ErrorCode, type FailureReason, invalidType } from "./errors.js";
import type { History } from "./quorum/history.js";
import type { Handle } from "./algorithm/handle.js";
import type { Lease } from "./algorithm/lease.js";
import type { Node } from "./nodes/node.js";
import type { Fence } from "./operations/accept-fence.js";
import type { ExecutionResult, ExecutionStats } from "./quorum/results.js";

/** Extends and releases the locks that it made. */
export interface LockIssuer {
  /** Renews a lock for `ttl` ms from now. */
  extend(lock: Lock, ttl: number): Promise<Lock>;
  /** Releases a lock on every node. */
  release(lock: Lock): Promise<ExecutionResult>;
}

/** A lock as plain data, which another process can `adopt`. */
export interface LockJson {
  /** The version of this format. */
  readonly version: 1;
  /** The names of the locked resources. */
  readonly resources: readonly string[];
  /** What the keys hold while the lock is held. */
  readonly value: string;
  /** The end of the validity in epoch ms, by the clock of the host that wrote this. */
  readonly expiration: number;
  /** The ttl in force, in ms. */
  readonly ttl: number;
  /** The setting `keyPrefix` of the Redlock that made the lock; `adopt` needs the same one. */
  readonly keyPrefix: string;
  /** The fencing token, if the lock has one. */
  readonly fence?: number;
  /** True for a reader: a lock with the setting `shared`. */
  readonly shared?: true;
  /** The number of its permit, if it is one of several. */
  readonly permit?: number;
}

/** Aborts when the lock is lost. `error` is then the same LockLostError as `reason`. */
export type RedlockAbortSignal = AbortSignal & {
  /** The LockLostError, once the signal has aborted. */
  error?: Error;
};

/** The parts of a lock that only the library sees. */
export interface LockParts {
  readonly redlock: LockIssuer;
  readonly nodes: readonly Node[];
  readonly resources: readonly string[];
  /** The resources' keys, in their order. */
  readonly keys: readonly string[];
  readonly value: string;
  readonly ttlMs: number;
  readonly keyPrefix: string;
  /** Whether its release hands over to the queue, unless the release has a setting of its own. */
  readonly queue: boolean;
  readonly lease: Lease;
  readonly history: History;
  readonly shared: boolean;
  readonly fence?: Fence | undefined;
  /** The number of its permit. */
  readonly permit?: number | undefined;
  /** The expiration in the data of an adopted lock, in epoch ms. */
  readonly statedExpirationMs?: number | undefined;
}

/** The parts of a lock, and its handle. */
export interface LockInside extends LockParts {
  readonly handle: Handle;
}

/** Returns the parts of a lock. Throws a TypeError that names the call if `lock` is not a lock of this library. */
export let partsOf: (lock: Lock, call: string) => LockInside;

/**
 * A lock that was acquired or adopted. `extend` changes this object; a lock that is lost or released stays so.
 *
 * @example
 * ```ts
 * await using lock = await redlock.acquire("invoice:7", 5000);
 * lock.signal.throwIfAborted(); // before each write
 * await charge(invoice);
 * ```
 */
export class Lock {
  /** The Redlock that made or adopted this lock. */
  readonly redlock: LockIssuer;
  /** The names of the locked resources, without repeats. */
  readonly resources: string[];
  /** What the keys hold while this lock is held: 32 random hexadecimal digits and, if there is one, the owner. */
  readonly value: string;
  /**
   * The fencing token, which is larger than that of every earlier lock on these resources. Pass it to whatever the lock
   * guards, which must refuse a token smaller than one it has seen. Undefined without the setting `fencing`.
   */
  readonly fence: number | undefined;
  /** Whether this is a reader, beside which others may hold the resources: it was acquired with the setting `shared`. */
  readonly shared: boolean;
  /** Which of the `permits` this lock is, from 0. Undefined without that setting. */
  readonly permit: number | undefined;
  readonly #lease: Lease;
  readonly #parts: LockInside;

  static {
    partsOf = (lock: unknown, call) => {
      if (typeof lock === "object" && lock !== null && #parts in lock) return lock.#parts;
      throw invalidType(
        `${call}() needs a lock that acquire() or adopt() of this copy of redlock-quorum gave. ` +
          "Pass such a lock; adopt(lock.toJSON()) a lock of another process or copy first.",
      );
    };
  }

  /** @internal */
  constructor(parts: LockInside) {
    this.redlock = parts.redlock;
    this.resources = [...parts.resources];
    this.value = parts.value;
    this.fence = parts.fence?.token;
    this.shared = parts.shared;
    this.permit = parts.permit;
    this.#lease = parts.lease;
    this.#parts = parts;
  }

  /** One promise of statistics for each attempt; for the last 100 if there were more. */
  get attempts(): readonly Promise<ExecutionStats>[] {
    return this.#parts.history.attempts;
  }

  /** The end of the validity in epoch ms, by this host's wall clock; 0 once lost or released. */
  get expiration(): number {
    if (this.#lease.adopted) return this.#parts.statedExpirationMs ?? 0;
    return this.#lease.expirationMs;
  }

  /** The ttl in force, in ms. */
  get ttl(): number {
    return this.#lease.ttlMs ?? this.#parts.ttlMs;
  }

  /**
   * Milliseconds of validity left, read from both clocks each time. 0 once lost or released, and for an adopted lock until
   * its first extension, since another host's clock set its expiration.
   */
  get remaining(): number {
    return this.#lease.remainingMs;
  }

  /** Whether the lock may be relied on now. */
  get valid(): boolean {
    return this.remaining > 0;
  }

  /**
   * Aborts with a LockLostError no later than the validity ends, whether or not anything extends the lock. Does not abort
   * for a lock that was released. An adopted lock is watched from its first extension on.
   *
   * @example
   * ```ts
   * const lock = await redlock.acquire("report", 10_000, { autoExtend: true });
   * await fetch(url, { signal: lock.signal });
   * ```
   */
  get signal(): RedlockAbortSignal {
    return this.#parts.handle.signal;
  }

  /** Extends this lock to `ttl` ms from now. Rejects as `Redlock.extend` does. */
  extend(ttl: number): Promise<Lock> {
    return this.redlock.extend(this, ttl);
  }

  /** Releases this lock on every node. Rejects as `Redlock.release` does. */
  release(): Promise<ExecutionResult> {
    return this.redlock.release(this);
  }

  /** Returns the lock as plain data, which another process can `adopt`. */
  toJSON(): LockJson {
    this.#parts.handle.passOn();
    return {
      version: 1,
      resources: [...this.resources],
      value: this.value,
      expiration: this.expiration,
      ttl: this.ttl,
      keyPrefix: this.#parts.keyPrefix,
      ...(this.fence === undefined ? {} : { fence: this.fence }),
      ...(this.shared ? { shared: true } : {}),
      ...(this.permit === undefined ? {} : { permit: this.permit }),
    };
  }

  /** Releases this lock at the end of an `await using` block. Rejects as `release` does. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/** Says that the lock's validity ended, or that no quorum held it any more, before it was released. */
export class LockLostError extends Error {
  /** Always `LockLostError`. */
  override readonly name = "LockLostError";
  /** Always `ERR_REDLOCK_LOST`. */
  readonly code = "ERR_REDLOCK_LOST" satisfies ErrorCode;
  /** `expired`, or `closed` if the Redlock was closed before the lock was released. */
  readonly reason: FailureReason;
  // Not a property, which would be printed with the error.
  readonly #lock: Lock;

  constructor(
    message: string,
    lock: Lock,
    options?: { readonly cause?: Error },
    reason: FailureReason = "expired",
  ) {
    super(message, options);
    this.#lock = lock;
    this.reason = reason;
    // Timers and replies find the loss: no frame of the stack tells anything.
    if (this.stack !== undefined) this.stack = `LockLostError: ${message}`;
  }

  /** The names of the resources. */
  get resources(): readonly string[] {
    return this.#lock.resources;
  }

  /** The lock that was lost. */
  get lock(): Lock {
    return this.#lock;
  }
}
