import { describe, expect, it } from "@jest/globals";
import { driftMs, elapsedMs, expirationMs, validityMs } from "../../../src/algorithm/validity.js";

describe("the drift allowance", () => {
  it("is a share of the ttl in whole ms, and 2 ms", () => {
    expect(driftMs(10_000, 0.01)).toBe(102);
    expect(driftMs(149, 0.01)).toBe(3);
    expect(driftMs(150, 0.01)).toBe(4);
    expect(driftMs(10_000, 0)).toBe(2);
  });
});

describe("the validity", () => {
  const since = { monotonicMs: 5_000, wallMs: 1_000_000 };
  const term = { since, ttlMs: 1_000, driftMs: 12 };

  it("is the ttl less the time elapsed less the drift", () => {
    expect(validityMs(term, since)).toBe(988);
    expect(validityMs(term, { monotonicMs: 5_300, wallMs: 1_000_300 })).toBe(688);
    expect(validityMs(term, { monotonicMs: 5_988, wallMs: 1_000_988 })).toBe(0);
    expect(validityMs(term, { monotonicMs: 6_000, wallMs: 1_001_000 })).toBe(-12);
  });

  it("is shortened by a wall clock that jumps forward, as after a suspension", () => {
    expect(elapsedMs(since, { monotonicMs: 5_001, wallMs: 1_000_700 })).toBe(700);
  });

  it("is not prolonged by a wall clock that is set back", () => {
    expect(elapsedMs(since, { monotonicMs: 5_300, wallMs: 900_000 })).toBe(300);
  });

  it("ends by the wall clock when that has counted it", () => {
    expect(expirationMs(term)).toBe(1_000_988);
  });
});
