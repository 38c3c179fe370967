// docs/troubleshooting.md and the sources agree: on the codes, and on the words of the messages.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { anchorsOfMarkdown } from "../support/links.js";

const root = join(import.meta.dirname, "..", "..");
const page = readFileSync(join(root, "docs/troubleshooting.md"), "utf8");

const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .map((name) => readFileSync(join(root, "src", name), "utf8"))
  .join("\n");

/** The first cells of the tables under a heading, without those of its head. */
function firstCells(heading: string): string[] {
  const section = page.split(/^##+ /m).find((text) => text.startsWith(`${heading}\n`)) ?? "";
  const rows = section.split("\n").filter((line) => line.startsWith("| `"));
  return rows.map((row) => row.split("|")[1] ?? "");
}

describe("docs/troubleshooting.md", () => {
  test("has a heading for each code of src/errors.ts, and no other", () => {
    const codes = readFileSync(join(root, "src/errors.ts"), "utf8").match(/"ERR_REDLOCK_[A-Z_]+"/g);
    const headings = [...page.matchAll(/^### `(ERR_\w+)`$/gm)].map(([, code]) => `"${code ?? ""}"`);
    expect(headings.length).toBeGreaterThan(10);
    expect(headings.sort()).toEqual([...new Set(codes)].sort());
  });

  test.each(["Sentences in the message", "Held, or no longer held", "After a restart"])(
    "quotes the messages of src/ under “%s”",
    (heading) => {
      const quoted = firstCells(heading).flatMap((cell) => [...cell.matchAll(/`(.+?)`/g)]);
      expect(quoted.length).toBeGreaterThan(3);
      for (const [, words = ""] of quoted) expect(sources).toContain(words);
    },
  );

  test("quotes the messages of src/ under “No reply”, and else codes of the system", () => {
    const quoted = firstCells("No reply").flatMap((cell) => [...cell.matchAll(/`(.+?)`/g)]);
    const words = quoted.map(([, text = ""]) => text).filter((text) => !/^E[A-Z]+$/.test(text));
    expect(words.length).toBeGreaterThan(5);
    for (const text of words) expect(sources).toContain(text);
  });

  test("links to headings that exist", () => {
    for (const [, file = "", anchor] of page.matchAll(/\]\(([\w-]+\.md)?#([^)]*)\)/g)) {
      const text = file === "" ? page : readFileSync(join(root, "docs", file), "utf8");
      expect([...anchorsOfMarkdown(text)]).toContain(anchor);
    }
  });
});
