import type { Programs, Step } from "./client.js";
import type { Bounds } from "./system.js";

/** Two programs, and how far their schedules are searched. */
export interface Pair {
  readonly name: string;
  readonly programs: Programs;
  readonly bounds: Bounds;
}

const acquire: Step = { does: "acquire" };
const release: Step = { does: "release" };
const extend: Step = { does: "extend", ttlMs: 100 };

export const PAIRS = [
  {
    name: "both acquire and release",
    programs: {
      before: [],
      then: [
        [acquire, release],
        [acquire, release],
      ],
    },
    bounds: { deliveries: 12, faults: 0, timers: 0 },
  },
  {
    name: "one releases, the other acquires",
    programs: { before: [acquire], then: [[release], [acquire]] },
    bounds: { deliveries: 3, faults: 1, timers: 1 },
  },
  {
    name: "one extends, the other acquires",
    programs: { before: [acquire], then: [[extend], [acquire]] },
    bounds: { deliveries: 2, faults: 2, timers: 0 },
  },
] as const satisfies readonly Pair[];
