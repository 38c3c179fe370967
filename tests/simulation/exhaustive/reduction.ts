import { expect } from "@jest/globals";
import { PAIRS } from "./pairs.js";
import { searched } from "./searched.js";
import type { Bounds } from "./system.js";

/** Expects that the search, which leaves out what makes no difference, meets every state that one without that meets. */
export async function expectEveryState(bounds: Bounds): Promise<void> {
  const { programs } = PAIRS[1];
  const reduced = await searched(programs, bounds);
  const whole = await searched(programs, bounds, { reduced: false });
  expect([...reduced.states].sort()).toEqual([...whole.states].sort());
  expect([...reduced.observables].sort()).toEqual([...whole.observables].sort());
  expect(reduced.executions).toBeLessThan(whole.executions);
}
