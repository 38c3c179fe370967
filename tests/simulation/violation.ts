/** Something that must never be. */
export class Violation extends Error {
  constructor(
    /** Which promise is broken, in a word or two. */
    readonly rule: string,
    readonly detail: string,
  ) {
    super(`${rule}: ${detail}`);
  }
}
