/** Tracks how long the nodes take to reply. */
export class Pace {
  #slowestMs = 0;

  /** The slowest recent round trip to a quorum, in ms. */
  get slowestMs(): number {
    return this.#slowestMs;
  }

  /** Takes over a slower round trip at once, and approaches a faster one by an eighth each time. */
  note(roundTripMs: number): void {
    this.#slowestMs = Math.max(roundTripMs, this.#slowestMs - (this.#slowestMs - roundTripMs) / 8);
  }
}
