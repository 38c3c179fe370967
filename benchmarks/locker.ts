// What the suite asks of a library.

export interface HeldLock {
  /** One an attempt, where the library keeps them. */
  readonly attempts?: { readonly length: number };
  extend(ttlMs: number): Promise<HeldLock>;
  release(): Promise<unknown>;
}

export interface Locker {
  acquire(resources: string[], ttlMs: number): Promise<HeldLock>;
  /** Waits until every node answers. */
  reachAll(): Promise<void>;
  close(): void;
}
