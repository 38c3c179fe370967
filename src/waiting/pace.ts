/** How long the nodes take of late. */
export class Pace {
  #slowestMs = 0;

  /** The slowest recent round trip to a quorum. */
  get slowestMs(): number {
    return this.#slowestMs;
  }

  /** A slower one counts at once, and is forgotten little by little. */
  note(roundTripMs: number): void {
    this.#slowestMs = Math.max(roundTripMs, this.#slowestMs - (this.#slowestMs - roundTripMs) / 8);
  }
}
