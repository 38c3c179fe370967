import { expect } from "@jest/globals";
import { library } from "../virtual-world/library.js";
import { turn } from "../virtual-world/turn.js";
import { hunt, newTally } from "./hunt.js";

/** Expects that the schedules of the seeds from `first` to `last` break no rule. */
export async function expectNoViolation(first: number, last: number): Promise<void> {
  const tally = newTally();
  for (let seed = first; seed <= last; seed++) {
    await turn(() => {
      hunt([seed], library, tally);
    });
  }
  expect(tally).toMatchObject({ schedules: last - first + 1, violations: [] });
}
