import type { Environment, Timer } from "../environment.js";

/** A release that a node has not confirmed. */
export interface OwedRelease {
  readonly keys: readonly string[];
  readonly value: string;
  /** For how long, at most, a command may have set the keys. */
  readonly ttlMs: number;
}

/** The key of a lock that is held, which a node does not hold yet. */
export interface OwedKey {
  readonly value: string;
  /** For how long, at most, the key is of use. */
  readonly ttlMs: number;
  /** Asks the node to set it, if the lock is still held. */
  readonly give: () => void;
}

export type Owed = OwedRelease | OwedKey;

/** Beyond this many the ttl alone frees the oldest. */
const MOST_OWED = 1000;

/**
 * What a node is owed while it does not answer, each until its ttl has passed. A value's key or its release: a
 * release takes the place of the key.
 */
export class OwedReleases {
  readonly #byValue = new Map<string, Owed & { readonly untilMs: number }>();
  readonly #environment: Environment;
  readonly #mayForget: () => boolean;
  #expiry: { readonly timer: Timer; readonly atMs: number } | undefined;

  /** @param mayForget false while a command is in flight that may set a key, or let it live longer */
  constructor(environment: Environment, mayForget: () => boolean) {
    this.#environment = environment;
    this.#mayForget = mayForget;
  }

  get size(): number {
    return this.#byValue.size;
  }

  add(owed: Owed): void {
    const untilMs = this.#environment.monotonicMs() + owed.ttlMs;
    this.#byValue.delete(owed.value);
    this.#byValue.set(owed.value, { ...owed, untilMs });
    if (this.#byValue.size > MOST_OWED) {
      const oldest = this.#byValue.keys().next();
      if (!oldest.done) this.#byValue.delete(oldest.value);
    }
    if (this.#expiry === undefined || untilMs < this.#expiry.atMs) this.#expireAt(untilMs);
  }

  paid(value: string): void {
    this.#byValue.delete(value);
    if (this.#byValue.size === 0) this.clear();
  }

  clear(): void {
    this.#byValue.clear();
    if (this.#expiry !== undefined) this.#environment.clearTimer(this.#expiry.timer);
    this.#expiry = undefined;
  }

  [Symbol.iterator](): Iterator<Owed> {
    return this.#byValue.values();
  }

  /** Begins the ttl anew: what may have set the keys was in flight until now. */
  prolong(value: string): void {
    const release = this.#byValue.get(value);
    if (release !== undefined) this.add(release);
  }

  #expireAt(atMs: number): void {
    if (this.#expiry !== undefined) this.#environment.clearTimer(this.#expiry.timer);
    const delayMs = Math.ceil(atMs - this.#environment.monotonicMs());
    const timer = this.#environment.setBackgroundTimer(() => {
      this.#expiry = undefined;
      this.#forgetExpired();
    }, delayMs);
    this.#expiry = { timer, atMs };
  }

  /** Forgets those whose ttl has passed, unless something in flight could bring their keys back. */
  #forgetExpired(): void {
    if (!this.#mayForget()) return;
    const nowMs = this.#environment.monotonicMs();
    let nextMs = Infinity;
    for (const [value, { untilMs }] of this.#byValue) {
      if (untilMs <= nowMs) this.#byValue.delete(value);
      else nextMs = Math.min(nextMs, untilMs);
    }
    if (this.#byValue.size > 0) this.#expireAt(nextMs);
    else this.clear();
  }
}
