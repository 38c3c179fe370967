import type { Environment, Timer } from "../runtime/environment.js";

/** A release that a node has not confirmed. */
export interface PendingRelease {
  readonly keys: readonly string[];
  readonly value: string;
  /** For how long, at most, a command may have set the keys. */
  readonly ttlMs: number;
}

/** The key of a lock that is held, which a node does not hold yet. */
export interface PendingKey {
  readonly value: string;
  /** For how long, at most, the key is of use. */
  readonly ttlMs: number;
  /** Asks the node to set it, if the lock is still held. */
  readonly give: () => void;
}

/** Beyond this many the ttl alone frees the oldest. */
const MOST_PENDING = 1000;

/** What waits for a node, by the values of locks: each until it is done or its ttl has passed. */
export class Pending<Item extends PendingRelease | PendingKey> {
  readonly #byValue = new Map<string, Item & { readonly untilMs: number }>();
  readonly #environment: Environment;
  readonly #mayForget: () => boolean;
  #expiry: { readonly timer: Timer; readonly atMs: number } | undefined;
  /** The ttl of some has passed, but they could not be forgotten then. */
  #isOverdue = false;

  /** @param mayForget false while a command is in flight that may set a key, or let it live longer */
  constructor(environment: Environment, mayForget: () => boolean) {
    this.#environment = environment;
    this.#mayForget = mayForget;
  }

  get size(): number {
    return this.#byValue.size;
  }

  add(item: Item): void {
    const untilMs = this.#environment.monotonicMs() + item.ttlMs;
    this.#byValue.delete(item.value);
    this.#byValue.set(item.value, { ...item, untilMs });
    if (this.#byValue.size > MOST_PENDING) {
      const oldest = this.#byValue.keys().next();
      if (!oldest.done) this.#byValue.delete(oldest.value);
    }
    if (this.#expiry === undefined || untilMs < this.#expiry.atMs) this.#expireAt(untilMs);
  }

  done(value: string): void {
    if (this.#byValue.delete(value) && this.#byValue.size === 0) this.clear();
  }

  clear(): void {
    this.#byValue.clear();
    if (this.#expiry !== undefined) this.#environment.clearTimer(this.#expiry.timer);
    this.#expiry = undefined;
  }

  [Symbol.iterator](): Iterator<Item> {
    return this.#byValue.values();
  }

  /** Lets the others be sent before this one, which the node refused. */
  defer(value: string): void {
    const item = this.#byValue.get(value);
    if (item === undefined) return;
    this.#byValue.delete(value);
    this.#byValue.set(value, item);
  }

  /**
   * A command has settled that may have set keys to these values. Their ttl begins anew, since the command
   * was in flight until now.
   */
  settled(values: readonly string[]): void {
    for (const value of values) {
      const item = this.#byValue.get(value);
      if (item !== undefined) this.add(item);
    }
    if (this.#isOverdue) this.#forgetExpired();
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
    this.#isOverdue = !this.#mayForget();
    if (this.#isOverdue) return;
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
