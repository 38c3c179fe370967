import type { Environment } from "../runtime/environment.js";
import { expirationMs, type Term, validityMs } from "./validity.js";

/** Learns what becomes of a lease. */
export interface LeaseListener {
  /** A quorum has granted an extension. */
  onRenewed(): void;
  /** Called once, when the lock is lost. */
  onLost(): void;
  /** Called once, when a lock is released that was not lost. */
  onReleased(): void;
}

/**
 * Knows how long a lock may be relied on.
 *
 * `adopted`: not known yet, since another host's clock set the expiration. `held`: until its term ends. `lost` and
 * `released` are final: no later reply brings a lock back.
 */
export class Lease {
  readonly #environment: Environment;
  #state: "adopted" | "held" | "lost" | "released";
  #term: Term | undefined;
  #lossCause: Error | undefined;
  #isReleaseAsked = false;
  /** The longest ttl of all extensions tried. A failed one counts, since it may have moved the expiry of a key. */
  longestTtlMs = 0;
  /** Whether a quorum has granted an extension. */
  isExtended = false;
  listener: LeaseListener | undefined;

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

  /** Milliseconds of validity left by both clocks. Reading this is what notices the end. */
  get remainingMs(): number {
    if (this.#state !== "held" || this.#term === undefined) return 0;
    const leftMs = validityMs(this.#term, this.#environment.now());
    if (leftMs > 0) return leftMs;
    this.lose();
    return 0;
  }

  /** The ttl with which a key set now expires together with the keys that the term was granted for. */
  get keyTtlMs(): number {
    const leftMs = this.remainingMs;
    return leftMs > 0 && this.#term !== undefined ? Math.ceil(leftMs + this.#term.driftMs) : 0;
  }

  /** Whether the lock is neither lost nor released. Reading this, too, notices the end. */
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

  /** The end of the validity in epoch ms; 0 once lost or released. */
  get expirationMs(): number {
    return this.open && this.#term !== undefined ? expirationMs(this.#term) : 0;
  }

  get ttlMs(): number | undefined {
    return this.#term?.ttlMs;
  }

  /**
   * Takes over the term that an extension granted. Returns false if the lease had already ended, or the new term is
   * already over. The term that ends later is in force: an extension never brings the expiry of a key nearer, so the
   * old promise stands.
   */
  renew(term: Term): boolean {
    const now = this.#environment.now();
    const newMs = validityMs(term, now);
    if (!this.open || newMs <= 0) return false;
    if (this.#term === undefined || newMs > validityMs(this.#term, now)) this.#term = term;
    this.#state = "held";
    this.isExtended = true;
    this.listener?.onRenewed();
    return true;
  }

  lose(cause?: Error): void {
    if (this.#state === "lost" || this.#state === "released") return;
    this.#state = "lost";
    this.#lossCause = cause;
    this.listener?.onLost();
  }

  /** Ends the lease. Returns false if it was called before: the release was sent then. */
  release(): boolean {
    if (this.#isReleaseAsked) return false;
    this.#isReleaseAsked = true;
    if (this.#state !== "lost") {
      this.#state = "released";
      this.listener?.onReleased();
    }
    return true;
  }
}
