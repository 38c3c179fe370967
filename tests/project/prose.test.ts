import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import {
  findingsIn,
  findingsInText,
  proseFiles,
  proseOfCode,
  proseOfMarkdown,
} from "../support/prose.js";

const root = join(import.meta.dirname, "..", "..");

describe("the prose", () => {
  test.each(proseFiles(root))("of %s names the actor, and uses the field's words", (path) => {
    expect(findingsIn(root, path)).toEqual([]);
  });
});

describe("the search for phrases", () => {
  test.each([
    "Who is refused a lock stands in a line on each node.",
    "Who is next is called.",
    "What is asked in one turn of the event loop travels to each node in one call.",
    "To the constructor they are the defaults of every call; a call's own come first.",
    "A minority cannot stop it.",
    "A failed attempt is cleared away.",
    "or one server votes for two",
    "A refusal for the moment pays nothing.",
    "How an operation is not just asked and answered.",
    "It is for it, but does not count unless the others turn out to be as young.",
    "The releases that it is owed.",
  ])("finds one in: %s", (text) => {
    expect(findingsInText(text, "text")).not.toEqual([]);
  });

  test.each([
    "A caller that does not get the lock joins a queue on every node.",
    "The node notifies the next waiter.",
    "Operations issued in the same event-loop turn are sent to each node as one command.",
    "Settings passed to a call override them.",
    "A failed attempt releases every node it may have locked.",
    "Granted, but counts only if a quorum of nodes also started recently.",
    "The error names the line of code.",
  ])("finds none in: %s", (text) => {
    expect(findingsInText(text, "text")).toEqual([]);
  });

  test("reads the comments and strings of code, across line breaks, and names the line", () => {
    const code = [
      "// Waits, since a minority",
      "// cannot stop it.",
      "const owed = `who is refused ${owed} and what is`; // asked",
      "/** The releases that the node is",
      " *  owed. `owed` */",
      'throw new Error("cleared away");',
    ].join("\n");
    expect(
      findingsInText(proseOfCode(code), "a.ts").map((line) => line.split(": rather")[0]),
    ).toEqual([
      "a.ts:2: “cannot stop it”",
      "a.ts:3: “who is refused”",
      "a.ts:5: “owed”",
      "a.ts:6: “cleared away”",
    ]);
  });

  test("reads no code in Markdown", () => {
    const text = "The client\nwho is refused.\n```ts\nowed\n```\n`owed`\n";
    expect(findingsInText(proseOfMarkdown(text), "a.md")).toHaveLength(1);
  });
});
