import { expect, test } from "@jest/globals";
import {
  CLIENT_COUNT,
  LONGEST_TTL_MS,
  MINORITY,
  planClientStrike,
  planRound,
  type Round,
} from "./plan.js";
import { seeded } from "./random.js";

function roundsOf(seed: number, dataLoss = false): Round[] {
  const random = seeded(seed, "rounds");
  return Array.from({ length: 500 }, () => planRound(random, dataLoss));
}

test("one seed gives one plan, another another", () => {
  expect(roundsOf(1)).toEqual(roundsOf(1));
  expect(roundsOf(1)).not.toEqual(roundsOf(2));
});

test("where servers lose their data, a majority of them often does so at once", () => {
  const wiped = roundsOf(1, true).filter(({ lanes }) => {
    const kills = lanes.filter((lane) =>
      lane.some(({ kind, afterMs }) => kind === "kill" && afterMs === 0),
    );
    return kills.length > MINORITY;
  });
  expect(wiped.length).toBeGreaterThan(100);
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

test("most of the freezes of clients outlast every ttl, and begin while a write is on its way", () => {
  const random = seeded(1, "client strikes");
  const strikes = Array.from({ length: 500 }, () => planClientStrike(random));
  const freezes = strikes.filter(({ kind }) => kind === "client freeze");
  const stale = freezes.filter(({ aimed, forMs }) => aimed && forMs > LONGEST_TTL_MS);
  expect(stale.length).toBeGreaterThan(freezes.length / 2);
});
