import { describe, expect, test } from "@jest/globals";
import { library } from "../../virtual-world/library.js";
import { turn } from "../../virtual-world/turn.js";
import { FOUND, mutate, OF_LOSSES } from "../mutants.js";
import { searchReaders } from "./readers.js";

const CASES = [
  ["reader", "reader", "writer"],
  ["reader", "writer", "reader"],
  ["writer", "reader", "reader"],
] as const;

describe("readers and writers on one node, in every order", () => {
  test.each(CASES)("break no rule: %s, %s and %s", async (...kinds) => {
    const found = await turn(() => searchReaders(kinds, 6, library));
    expect(found.violation).toBeUndefined();
    expect(found.transitions).toBeGreaterThan(10_000);
  });

  test.each(CASES)(
    "break no rule while the node loses keys and an operator ends locks: %s, %s and %s",
    async (...kinds) => {
      const { violation } = await turn(() => searchReaders(kinds, 5, library, true));
      expect(violation).toBeUndefined();
    },
  );

  test.each([
    ["the marker ends with the reader that came last", "kept"],
    ["the last reader leaves the marker", "released"],
    ["any reader deletes the marker", "kept"],
    ["a reader passes a writer that waits", "first come"],
    ["a reader is extended without the marker", "continuity"],
    ["a reader is extended that the node has no more", "continuity"],
    ["a new marker keeps the readers of an older one", "continuity"],
    ["a reader joins whoever holds the key", "kept"],
    ["the last reader hands over to nobody", "hand-over"],
    ["readers are told one by one", "together"],
    ["readers are told past the next writer", "together"],
    ["forceRelease leaves the readers' set, and names the marker", "force"],
  ])("show a planted bug: %s", async (name, rule) => {
    const mutant = [...FOUND, ...OF_LOSSES].find((each) => each.name === name);
    if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
    const bugged = await mutate(mutant);
    const rules = await turn(() =>
      CASES.map((kinds) => searchReaders(kinds, 6, bugged, true).violation?.error.rule),
    );
    expect(rules).toContain(rule);
  });
});
