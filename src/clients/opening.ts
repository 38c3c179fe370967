interface Waiter {
  readonly resolve: () => void;
  readonly reject: (failure: Error) => void;
}

/** The calls that wait until a connection is next ready or next fails. */
export class Opening {
  #waiters: Waiter[] = [];

  get isAwaited(): boolean {
    return this.#waiters.length > 0;
  }

  /** Resolves at the next `succeed`, rejects at the next `fail`. */
  wait(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  succeed(): void {
    for (const { resolve } of this.#take()) resolve();
  }

  fail(failure: Error): void {
    for (const { reject } of this.#take()) reject(failure);
  }

  #take(): Waiter[] {
    const waiters = this.#waiters;
    this.#waiters = [];
    return waiters;
  }
}
