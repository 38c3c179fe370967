import { describe, expect, test } from "@jest/globals";
import { costInWords, type Turn, verdictOf } from "../../docker/demo-report.js";

describe("the verdict of the demo", () => {
  const turn = (from: number): Turn => ({ askedUs: from, enteredUs: from, leftUs: from + 10 });

  test("passes if the counter has every increment", () => {
    expect(verdictOf([turn(0), turn(10)], 2)).toMatchObject({
      passed: true,
      short: "No update lost",
    });
  });

  test.each<[string, Turn[], number, string]>([
    ["a lost update", [turn(0), turn(10), turn(20)], 2, "1 UPDATE LOST"],
    ["an overlap", [turn(0), turn(5)], 2, "1 OVERLAP"],
    ["a failed turn", [turn(0), { askedUs: 10, error: "no quorum" }], 1, "1 TURN FAILED"],
    ["a counter that is too high", [turn(0)], 3, "2 INCREMENTS TOO MANY"],
  ])("fails for %s", (_what, turns, found, short) => {
    expect(verdictOf(turns, found)).toMatchObject({ passed: false, short });
  });

  test.each([
    [100, 96, "fell by 4 %"],
    [100, 104, "rose by 4 %"],
    [100, 100, "stayed the same"],
  ])("says that %i and then %i turns per second is: %s", (before, after, words) => {
    const figures = (turnsPerSecond: number) => {
      return { name: "", turnsPerSecond, waitP50Ms: 1, waitP99Ms: 1 };
    };
    expect(costInWords(figures(before), figures(after))).toContain(words);
  });
});
