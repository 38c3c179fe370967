import { expect, test } from "@jest/globals";
import { CLIENT_COUNT, MINORITY, planRound, type Round } from "./plan.js";
import { seeded } from "./random.js";

function roundsOf(seed: number): Round[] {
  const random = seeded(seed, "rounds");
  return Array.from({ length: 500 }, () => planRound(random));
}

test("one seed gives one plan, another another", () => {
  expect(roundsOf(1)).toEqual(roundsOf(1));
  expect(roundsOf(1)).not.toEqual(roundsOf(2));
});

test("outside the declared rounds, no more than a minority fails for any client at once", () => {
  for (const { lanes } of roundsOf(3).filter(({ name }) => name !== "majority gone")) {
    for (let client = 0; client < CLIENT_COUNT; client++) {
      // A lane has one fault at a time; so as many lanes as concern a client may fail it at once.
      const felt = lanes.filter((lane) => lane.some(({ clients }) => clients.includes(client)));
      expect(felt.length).toBeLessThanOrEqual(MINORITY);
    }
  }
});
