// One lock in the hands of this client: what it believes of it, and what it writes under it.

import { setTimeout as sleep } from "node:timers/promises";
import type { Lock } from "../../src/index.js";
import { type Call, type ClientRecord, guardedByPermit, type Journal, nowUs } from "./records.js";
import type { Access } from "./register.js";

/** Below this the client leaves the write be: it might land too late. */
const MARGIN_MS = 100;
/** So long that there is time to freeze this process meanwhile. */
const LONG_TRANSIT_MS = 10;

export interface TenureContext {
  readonly journal: Journal<ClientRecord>;
  /** What the guarded resource answers: its value, or nothing where it refuses. */
  readonly access: (access: Access) => Promise<string | undefined>;
  /** For the negative control: write without a look at the lock. */
  readonly unchecked: boolean;
  /** A write is on its way, and will be for a while. */
  readonly onWriting: () => void;
  readonly onWrite: () => void;
}

export class Tenure {
  readonly #context: TenureContext;
  readonly #id: string;
  readonly #lock: Lock;
  readonly #call: Call;
  readonly keys: readonly string[];
  readonly shared: boolean;
  #open = true;
  #validUntilUs = 0;
  #watch: NodeJS.Timeout | undefined;
  #updates = 0;

  constructor(context: TenureContext, id: string, lock: Lock, call: Call, askedUs: number) {
    this.#context = context;
    this.#id = id;
    this.#lock = lock;
    this.#call = call;
    this.keys = lock.permit === undefined ? lock.resources : [guardedByPermit(lock.permit)];
    this.shared = lock.shared;
    const atUs = nowUs();
    const { keys } = this;
    const remainingMs = lock.remaining;
    const kind = this.shared ? { shared: true as const } : this.#fence;
    this.#note({ type: "acquired", atUs, tenure: id, call, keys, askedUs, remainingMs, ...kind });
    this.#validUntilUs = atUs + remainingMs * 1_000;
  }

  /** Whether the client may still rely on the lock. */
  get open(): boolean {
    this.look();
    return this.#open;
  }

  /** Writes down what the lock says of itself. */
  look(): void {
    if (!this.#open) return;
    const atUs = nowUs();
    const remainingMs = this.#lock.remaining;
    if (remainingMs > 0) {
      this.#note({ type: "valid", atUs, tenure: this.#id, remainingMs });
      this.#validUntilUs = atUs + remainingMs * 1_000;
    } else this.lost("its validity was over");
  }

  /**
   * Notes at the end of the validity that the signal has aborted. It looks at the signal first: a look
   * at the lock would make it abort. An immediate comes after every timer that is due.
   */
  watch(signal: AbortSignal): void {
    const leftMs = Math.ceil((this.#validUntilUs - nowUs()) / 1_000);
    this.#watch = setTimeout(() => {
      setImmediate(() => {
        if (signal.aborted) {
          this.#note({ type: "watched", atUs: nowUs(), tenure: this.#id });
        } else {
          this.look();
          if (this.#open) this.watch(signal);
        }
      });
    }, leftMs).unref();
  }

  lost(why: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.#note({ type: "lost", atUs: nowUs(), tenure: this.#id, call: this.#call, why });
  }

  end(how: "released" | "handed over" | "abandoned"): void {
    if (!this.#open) return;
    this.look();
    this.#open = false;
    clearTimeout(this.#watch);
    this.#note({ type: "ended", atUs: nowUs(), tenure: this.#id, how });
  }

  /**
   * Reads, works, looks whether the lock still holds, and writes. The write is on its way for
   * `transitMs`, as it would be to a resource elsewhere; what happens then, no look can prevent.
   */
  async update(key: string, workMs: number, transitMs: number): Promise<void> {
    const { access, unchecked, onWriting, onWrite } = this.#context;
    const token = `${this.#id}.${++this.#updates}`;
    const shown = { key, token, ...this.#fence };
    const read = await access({ what: "read", ...shown });
    if (read === undefined) {
      this.#note({ type: "read refused", atUs: nowUs(), tenure: this.#id, key });
      return;
    }
    await sleep(workMs);
    this.look();
    const checkedUs = nowUs();
    const remainingMs = this.#lock.remaining;
    if (remainingMs < MARGIN_MS && !unchecked) {
      this.#note({ type: "held back", atUs: checkedUs, tenure: this.#id, remainingMs });
      return;
    }
    if (transitMs >= LONG_TRANSIT_MS) onWriting();
    if (transitMs > 0) await sleep(transitMs);
    const accepted = (await access({ what: "write", ...shown, read })) !== undefined;
    const looked = { checkedUs, remainingMs };
    this.#note({ type: "wrote", atUs: nowUs(), tenure: this.#id, key, token, ...looked, accepted });
    onWrite();
    this.look();
  }

  /** Reads, works, looks whether the lock still holds, and reads again: nobody may have written in between. */
  async readTwice(key: string, workMs: number): Promise<void> {
    const { access, unchecked } = this.#context;
    const shown = { key, token: `${this.#id}.${++this.#updates}` };
    await access({ what: "read", ...shown });
    await sleep(workMs);
    this.look();
    const atUs = nowUs();
    const remainingMs = this.#lock.remaining;
    if (remainingMs < MARGIN_MS && !unchecked) {
      this.#note({ type: "held back", atUs, tenure: this.#id, remainingMs });
      return;
    }
    await access({ what: "read", ...shown });
    this.look();
  }

  get #fence(): { readonly fence?: number } {
    const { fence } = this.#lock;
    return fence === undefined ? {} : { fence };
  }

  #note(entry: ClientRecord): void {
    this.#context.journal.add(entry);
  }
}
