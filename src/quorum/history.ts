import { quorumOf, type Round, withAnother } from "./round.js";
import type { ExecutionResult, ExecutionStats } from "./results.js";

/** Statistics are kept for this many attempts. Older ones are only counted. */
const MOST_ROUNDS = 100;

/** The rounds of one call. Their statistics are computed when somebody reads them. */
export class History implements ExecutionResult {
  readonly start: number;
  #rounds: Round[] | undefined;
  /** Those of them that are attempts of other calls, in the same order. */
  #roundsOfOthers: Round[] | undefined;
  #count = 0;
  #attempts: Promise<ExecutionStats>[] | undefined;

  /** @param start when the operation began, in epoch ms */
  constructor(start: number) {
    this.start = start;
  }

  add(round: Round): void {
    this.#count += 1;
    this.#rounds = withAnother(this.#rounds, round);
    if (this.#rounds.length > MOST_ROUNDS) {
      const dropped = this.#rounds.shift();
      if (dropped === this.#roundsOfOthers?.[0]) this.#roundsOfOthers?.shift();
    }
    this.#attempts = undefined;
  }

  /** Adds an attempt of another call for the same keys, which counts as one of this call. */
  addOfOther(round: Round): void {
    this.#roundsOfOthers = withAnother(this.#roundsOfOthers, round);
    this.add(round);
  }

  /** Whether a round granted the lock to another call: its votes for were not for this one. */
  isGrantOfOther(round: Round): boolean {
    if (this.#roundsOfOthers?.includes(round) !== true) return false;
    const { ballots } = round;
    return ballots.filter(({ vote }) => vote === "for").length >= quorumOf(ballots.length);
  }

  /** Replaces the round of the last attempt by its second round, which says more about it. */
  replaceLast(round: Round): void {
    this.#rounds?.splice(-1, 1, round);
    this.#attempts = undefined;
  }

  /** How many attempts there were, including those whose statistics were dropped. */
  get count(): number {
    return this.#count;
  }

  get last(): Round | undefined {
    return this.#rounds?.at(-1);
  }

  /** The rounds, without those that were dropped. */
  get rounds(): readonly Round[] {
    return this.#rounds ?? [];
  }

  get attempts(): readonly Promise<ExecutionStats>[] {
    this.#attempts ??= this.rounds.map((round) => round.stats());
    return this.#attempts;
  }
}
