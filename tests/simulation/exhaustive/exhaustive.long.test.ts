import { test } from "@jest/globals";
import { expectEveryState } from "./reduction.js";

// exhaustive.test.ts does the same within smaller bounds.
test("the exhaustive search meets with its reduction every state that it meets without, with two faults", () =>
  expectEveryState({ deliveries: 1, faults: 2, timers: 0 }));
