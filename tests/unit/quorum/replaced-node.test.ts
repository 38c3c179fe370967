// "Replace a node" of docs/operations.md: its argument, for every pair of quorums.

import { describe, expect, test } from "@jest/globals";

describe("every pair of quorums, one of the old list and one of the new,", () => {
  /** Every set of more than half of the nodes, of those that run. */
  function quorums(nodes: string, running = nodes): string[] {
    const subsets = running
      .split("")
      .reduce<string[]>((found, node) => [...found, ...found.map((subset) => subset + node)], [""]);
    return subsets.filter(({ length }) => length > nodes.length / 2);
  }

  /** The pairs without a common node. */
  function disjoint(ones: readonly string[], others: readonly string[]): string[] {
    return ones.flatMap((one) =>
      others.flatMap((other) =>
        one.split("").some((node) => other.includes(node)) ? [] : [`${one} ${other}`],
      ),
    );
  }

  test.each([
    ["ABC", "ABD", "AB"],
    ["ABCDE", "ABCDF", "ABCD"],
    ["ABCDEFG", "ABCDEFH", "ABCDEF"],
  ])(
    "of %s and %s, has a common node only if %s alone vote for the old list",
    (old, next, left) => {
      expect(disjoint(quorums(old), quorums(next))).not.toEqual([]);
      expect(quorums(old, left)).not.toEqual([]);
      expect(disjoint(quorums(old, left), quorums(next))).toEqual([]);
    },
  );

  test("has a common node also if two nodes of five are replaced at once, and both are stopped first", () => {
    expect(disjoint(quorums("ABCDE", "ABC"), quorums("ABCFG"))).toEqual([]);
    expect(disjoint(quorums("ABCDE", "ABCD"), quorums("ABCFG"))).not.toEqual([]);
  });

  test("need have no common node if the number of nodes changes by two, and has one if it changes by one to an even number", () => {
    expect(disjoint(quorums("ABC"), quorums("ABCDE"))).not.toEqual([]);
    expect(disjoint(quorums("ABC"), quorums("ABCD"))).toEqual([]);
    expect(disjoint(quorums("ABCD"), quorums("ABCDF"))).toEqual([]);
    expect(disjoint(quorums("ABCDE"), quorums("ABCD"))).toEqual([]);
    expect(disjoint(quorums("ABCD"), quorums("ABC"))).toEqual([]);
  });
});
