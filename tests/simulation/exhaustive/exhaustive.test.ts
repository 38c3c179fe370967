import { describe, expect, test } from "@jest/globals";
import { mutate, MUTANTS } from "../mutants.js";
import type { Programs } from "./client.js";
import { PAIRS } from "./pairs.js";
import { expectEveryState } from "./reduction.js";
import { searched } from "./searched.js";
import type { Bounds } from "./system.js";

const acquire = { does: "acquire" } as const;
const extendLonger = { does: "extend", ttlMs: 150 } as const;
const release = { does: "release" } as const;
const waitForExpiry = { does: "wait", ms: 101 } as const;

describe("the exhaustive search", () => {
  test.each(PAIRS)(
    "finds no violation within a few deliveries and a fault: $name",
    async ({ programs }) => {
      const found = await searched(programs, { deliveries: 3, faults: 1, timers: 0 });
      expect(found.violation).toBeUndefined();
      expect(found.complete).toBe(true);
      expect(found.mostDeliveries).toBe(3);
    },
  );

  test.each([
    { deliveries: 4, faults: 0, timers: 0 },
    { deliveries: 2, faults: 0, timers: 2 },
    { deliveries: 1, faults: 1, timers: 1 },
  ])("meets with its reduction every state that it meets without: %j", (bounds) =>
    expectEveryState(bounds),
  );

  const planted: { bug: string; programs: Programs; bounds: Bounds; rule: string }[] = [
    {
      bug: "quorum N/2",
      programs: { before: [], then: [[acquire], [acquire]] },
      bounds: { deliveries: 2, faults: 0, timers: 0 },
      rule: "quorum",
    },
    {
      bug: "no release after a failed attempt",
      programs: PAIRS[0].programs,
      bounds: { deliveries: 2, faults: 0, timers: 0 },
      rule: "release everywhere",
    },
    {
      bug: "DEL without the compare",
      programs: { before: [acquire], then: [[], [acquire]] },
      bounds: { deliveries: 2, faults: 0, timers: 0 },
      rule: "only the owner",
    },
    {
      bug: "extension without the compare",
      programs: { before: [acquire], then: [[extendLonger], [waitForExpiry, acquire]] },
      bounds: { deliveries: 2, faults: 0, timers: 2 },
      rule: "only the owner",
    },
    {
      bug: "nothing is pending",
      programs: { before: [acquire], then: [[release], []] },
      bounds: { deliveries: 2, faults: 1, timers: 0 },
      rule: "release everywhere",
    },
    {
      bug: "a release does not end the lease",
      programs: { before: [acquire], then: [[release], [acquire]] },
      bounds: { deliveries: 4, faults: 0, timers: 0 },
      rule: "exclusion",
    },
  ];

  test.each(planted)("finds a planted bug: $bug", async ({ bug, programs, bounds, rule }) => {
    const mutant = MUTANTS.find(({ name }) => name === bug);
    if (mutant === undefined) throw new Error(`there is no mutant ${bug}`);
    expect((await searched(programs, bounds)).violation).toBeUndefined();
    const found = await searched(programs, bounds, { of: await mutate(mutant) });
    expect(found.violation?.error.message).toMatch(new RegExp(`^${rule}:`));
  });
});
