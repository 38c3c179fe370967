// The guarded resource: a file whose last line is its value. Reading takes the last line, writing adds
// one that says which it was made from; so whatever is written from an old value is seen for ever.

import { appendFileSync, closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { RegisterLine } from "./records.js";

const LONGEST_LINE = 400;

export type Value = Pick<RegisterLine, "token" | "count">;

export class Register {
  readonly #path: string;

  constructor(folder: string, key: string) {
    this.#path = join(folder, `register-${key}.jsonl`);
  }

  read(): Value {
    const file = openSync(this.#path, "a+");
    try {
      const { size } = fstatSync(file);
      const tail = Buffer.alloc(Math.min(size, LONGEST_LINE));
      readSync(file, tail, 0, tail.length, size - tail.length);
      const last = tail.toString().split("\n").at(-2);
      if (last === undefined) return { token: "", count: 0 };
      return JSON.parse(last) as RegisterLine;
    } finally {
      closeSync(file);
    }
  }

  /** One append is one system call: lines never mix, and stand in the order in which they landed. */
  write(line: RegisterLine): void {
    appendFileSync(this.#path, `${JSON.stringify(line)}\n`);
  }
}
