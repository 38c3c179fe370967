import { expect, test } from "@jest/globals";
import { History } from "../../../src/quorum/history.js";
import type { Round } from "../../../src/quorum/round.js";

const granted = (): Round => ({ ballots: [{ vote: "for" }] }) as unknown as Round;

test("a history forgets the attempt of another call together with its statistics", () => {
  const history = new History(0);
  const [first, second] = [granted(), granted()];
  history.addOfOther(first);
  history.addOfOther(second);
  for (let count = 0; count < 98; count++) history.add(granted());
  expect(history.rounds[0]).toBe(first);
  expect(history.isGrantOfOther(first)).toBe(true);
  history.add(granted());
  expect(history.rounds).not.toContain(first);
  expect(history.isGrantOfOther(first)).toBe(false);
  expect(history.isGrantOfOther(second)).toBe(true);
  expect(history.count).toBe(101);
});
