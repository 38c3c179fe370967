import type { Environment, Timer } from "../runtime/environment.js";

/** A release that a node has not confirmed yet. */
export interface PendingRelease {
  readonly keys: readonly string[];
  readonly value: string;
  /** Whether it is that of a reader. */
  readonly shared: boolean;
  /** The longest time that the keys may live, in ms. */
  readonly ttlMs: number;
}

/** The key of a lock that is held, but not yet by this node. */
export interface PendingKey {
  readonly value: string;
  /** How long the key is of use at most, in ms. */
  readonly ttlMs: number;
  /** Asks the node to set it, if the lock is still held. */
  readonly give: () => void;
}

/** Beyond this many, the oldest is dropped and only its ttl frees the key. */
const MOST_PENDING = 1000;

/** What waits for a node, by lock value. Each item stays until it is done or its ttl has passed. */
export class Pending<Item extends PendingRelease | PendingKey> {
  readonly #byValue = new Map<string, Item & { readonly untilMs: number }>();
  readonly #environment: Environment;
  readonly #mayForget: () => boolean;
  #expiry: { readonly timer: Timer; readonly atMs: number } | undefined;
  /** Whether the ttl of some items has passed, but they could not be forgotten then. */
  #isOverdue = false;

  /** @param mayForget returns false while a command is in flight that may set a key, or let it live longer */
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

  [Symbol.iterator](): IterableIterator<Item> {
    return this.#byValue.values();
  }

  /** Moves an item that the node refused behind the others. */
  defer(value: string): void {
    const item = this.#byValue.get(value);
    if (item === undefined) return;
    this.#byValue.delete(value);
    this.#byValue.set(value, item);
  }

  /**
   * Notes that a command has settled that may have set keys to these values. Their ttl begins again now, since the node
   * may have run the command only just now.
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

  /** Forgets the items whose ttl has passed, unless a command in flight could set their keys again. */
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
