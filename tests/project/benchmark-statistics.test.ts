import { describe, expect, test } from "@jest/globals";
import { verdictOn } from "../../benchmarks/against.js";
import { medianInterval } from "../../benchmarks/measure.js";

const from1To = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe("the interval of a median", () => {
  // The ranks that tables of the binomial distribution give for 95 %.
  test.each([
    [6, 1, 6],
    [10, 2, 9],
    [20, 6, 15],
    [40, 14, 27],
    [60, 22, 39],
  ])("of %i values is from rank %i to %i", (count, low, high) => {
    const values = from1To(count).reverse();
    expect(medianInterval(values)).toEqual({ low, high });
  });

  test("needs six values", () => {
    expect(medianInterval(from1To(5))).toBeUndefined();
  });
});

describe("the verdict on two builds", () => {
  const around = (middle: number): number[] =>
    from1To(21).map((value) => middle + (value - 11) / 1000);

  test.each([
    [0.95, 1, "costs less"],
    [1.05, 1, "costs more"],
    [1.001, 1, "no difference shown"],
    // The other build differs from itself by as much.
    [1.05, 1.05, "no difference shown"],
    [0.95, 0.95, "no difference shown"],
    [0.95, 1.05, "costs less"],
  ])("%d, where the other one differs from itself by %d: %s", (relative, again, verdict) => {
    expect(verdictOn(around(relative), around(again))).toBe(verdict);
  });

  test("needs rounds", () => {
    expect(verdictOn([0.5, 0.5], [1, 1])).toBe("too few rounds");
  });
});
