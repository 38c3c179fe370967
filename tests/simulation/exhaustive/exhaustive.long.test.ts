import { expect, test } from "@jest/globals";
import { PAIRS } from "./pairs.js";
import { searched } from "./searched.js";

// exhaustive.test.ts does the same within smaller bounds.
test("the exhaustive search meets with its reduction every state that it meets without, with two faults", async () => {
  const bounds = { deliveries: 1, faults: 2, timers: 0 };
  const { programs } = PAIRS[1];
  const reduced = await searched(programs, bounds);
  const whole = await searched(programs, bounds, { reduced: false });
  expect([...reduced.states].sort()).toEqual([...whole.states].sort());
  expect([...reduced.observables].sort()).toEqual([...whole.observables].sort());
  expect(reduced.executions).toBeLessThan(whole.executions);
});
