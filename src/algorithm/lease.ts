import type { Environment } from "../runtime/environment.js";
import { expirationMs, type Term, validityMs } from "./validity.js";

/**
 * How long a lock may be relied on.
 *
 * `adopted`: not known here, since the clock that set it was another host's. `held`: until its term is
 * over. `lost` and `released` are final: no later answer brings a lock back.
 */
export class Lease {
  readonly #environment: Environment;
  #state: "adopted" | "held" | "lost" | "released";
  #term: Term | undefined;
  #lossCause: Error | undefined;
  #isReleaseAsked = false;
  /** Of all extensions that were tried: one that failed may have moved a key's expiry. */
  longestTtlMs = 0;
  /** Whether an extension was ever granted. */
  isExtended = false;
  #onLoss: (() => void) | undefined;

  private constructor(environment: Environment, term: Term | undefined) {
    this.#environment = environment;
    this.#term = term;
    this.#state = term === undefined ? "adopted" : "held";
  }

  static held(environment: Environment, term: Term): Lease {
    return new Lease(environment, term);
  }

  static adopted(environment: Environment): Lease {
    return new Lease(environment, undefined);
  }

  /** Called once, at the moment of the loss; at once where the lock is lost already. */
  set onLoss(listener: () => void) {
    this.#onLoss = listener;
    if (this.#state === "lost") listener();
  }

  /** Ms of validity left by both clocks; reading it is what notices the end. */
  get remainingMs(): number {
    if (this.#state !== "held" || this.#term === undefined) return 0;
    const leftMs = validityMs(this.#term, this.#environment.now());
    if (leftMs > 0) return leftMs;
    this.lose();
    return 0;
  }

  /** Ms for which a key that is set now lives as long as those that the term was granted for. */
  get keyTtlMs(): number {
    const leftMs = this.remainingMs;
    return leftMs > 0 && this.#term !== undefined ? Math.ceil(leftMs + this.#term.driftMs) : 0;
  }

  /** Neither lost nor released, as of now: reading it, too, notices the end. */
  get open(): boolean {
    return this.#state === "adopted" || this.remainingMs > 0;
  }

  get adopted(): boolean {
    return this.#state === "adopted";
  }

  get released(): boolean {
    return this.#state === "released";
  }

  get lossCause(): Error | undefined {
    return this.#lossCause;
  }

  /** Epoch ms of the end, 0 once lost or released. */
  get expirationMs(): number {
    return this.open && this.#term !== undefined ? expirationMs(this.#term) : 0;
  }

  get ttlMs(): number | undefined {
    return this.#term?.ttlMs;
  }

  /**
   * Takes up what an extension granted. False where the lease had ended by then, or the new term is
   * over already. Of the old and the new term the one that ends later is in force: no key's expiry
   * was brought nearer, so the old promise stands.
   */
  renew(term: Term): boolean {
    const now = this.#environment.now();
    const newMs = validityMs(term, now);
    if (!this.open || newMs <= 0) return false;
    if (this.#term === undefined || newMs > validityMs(this.#term, now)) this.#term = term;
    this.#state = "held";
    this.isExtended = true;
    return true;
  }

  lose(cause?: Error): void {
    if (this.#state === "lost" || this.#state === "released") return;
    this.#state = "lost";
    this.#lossCause = cause;
    this.#onLoss?.();
  }

  /** Ends the lease. False where it was called before: the nodes were told to release then. */
  release(): boolean {
    if (this.#isReleaseAsked) return false;
    this.#isReleaseAsked = true;
    if (this.#state !== "lost") this.#state = "released";
    return true;
  }
}
