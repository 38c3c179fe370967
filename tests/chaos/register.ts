// The guarded resource: a value that whoever reads it may replace. It runs in the process of the run, where
// nobody freezes it, and takes one access after the other. With fencing it refuses who shows a smaller
// token than it has seen. Each access is one line of its file, in the order of landing.

import { join } from "node:path";
import { Journal, nowUs, type RegisterLine } from "./records.js";

/** What a client asks of the resource. */
export type Access = Pick<RegisterLine, "what" | "token"> & {
  readonly key: string;
  /** Absent without fencing. */
  readonly fence?: number;
  /** For a write: the token of the value that it was made from. */
  readonly read?: string;
};

export class Register {
  readonly #journal: Journal<RegisterLine>;
  /** The token of the last write that was accepted, and with it the value. */
  #last = "";
  #fence = 0;

  constructor(folder: string, key: string) {
    this.#journal = new Journal(join(folder, `register-${key}.jsonl`));
  }

  /**
   * Compares, keeps the fencing token and writes, with nothing in between. A read shows its token, too: what
   * an earlier holder writes after it would be lost.
   *
   * @returns the value as it is then; undefined where the access was refused
   */
  access({ what, token, fence, read = this.#last }: Access): string | undefined {
    const accepted = fence === undefined || fence >= this.#fence;
    const shown = fence === undefined ? {} : { fence };
    this.#journal.add({ atUs: nowUs(), what, token, read, ...shown, accepted });
    if (!accepted) return undefined;
    if (fence !== undefined) this.#fence = fence;
    if (what === "write") this.#last = token;
    return this.#last;
  }
}
