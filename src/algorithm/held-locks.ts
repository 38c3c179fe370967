import { Link } from "../runtime/link.js";
import type { Handle } from "./handle.js";

/**
 * The locks of one Redlock that are held, as far as it knows. A lock that expired without being used is found because
 * each new lock looks at the two oldest ones: more than one is added, so that those that are held for long hide no others.
 */
export class HeldLocks {
  readonly #end = new Link<Handle>();
  #onEmpty: (() => void)[] = [];

  add(handle: Handle): Link<Handle> {
    for (let looks = 0; looks < 2; looks++) {
      const { after: oldest } = this.#end;
      // Reading it takes an ended lock out.
      if (oldest.item?.isHeld === true) {
        oldest.leave();
        oldest.goBehind(this.#end.before);
      }
    }
    const link = new Link(handle);
    link.goBehind(this.#end.before);
    return link;
  }

  remove(link: Link<Handle>): void {
    link.leave();
    if (!this.#end.isAlone || this.#onEmpty.length === 0) return;
    const resolves = this.#onEmpty;
    this.#onEmpty = [];
    for (const resolve of resolves) resolve();
  }

  /** Resolves once no lock is held. */
  async empty(): Promise<void> {
    while (!this.#end.isAlone) {
      await new Promise<void>((resolve) => {
        this.#onEmpty.push(resolve);
      });
    }
  }

  /** Returns the locks that are held now. */
  all(): Handle[] {
    return this.#end.items();
  }
}
