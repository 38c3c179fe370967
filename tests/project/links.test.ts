// The links of the Markdown files, as GitHub shows them. The links of the built site: site.long.test.ts.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { anchorsOfMarkdown, deadLinksOfMarkdown, deadLinksOfPages } from "../support/links.js";

const root = join(import.meta.dirname, "..", "..");
const markdownIn = (folder: string) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name));
const guides = markdownIn("docs");
const documents = [...markdownIn("."), ...guides, "tests/README.md"];

describe("links", () => {
  test.each(documents)("of %s lead to files and headings that are there", (path) => {
    expect(deadLinksOfMarkdown(root, path)).toEqual([]);
  });

  // npm's page and the site resolve such links as GitHub does; none of them has a page for a folder.
  test("of the README lead to files", () => {
    const links = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/\]\(([^)#\s]+)/g)];
    const local = links.map(([, link = ""]) => link).filter((link) => !/^https?:/.test(link));
    expect(local.filter((link) => !/^\w[\w/.-]*\.\w+$/.test(link))).toEqual([]);
  });
});

test("every guide has one place in the navigation of the site", () => {
  const navigation = JSON.parse(
    readFileSync(join(root, "docs", "site", "navigation.json"), "utf8"),
  ) as Record<string, string[]>;
  const places = Object.values(navigation).flat();
  expect(places).toEqual([...new Set(places)]);
  const placed = places.map((name) => join("docs", `${name}.md`));
  expect(guides.filter((path) => !placed.includes(path))).toEqual([]);
});

describe("a search for dead links", () => {
  const withFiles = (files: Record<string, string>, check: (folder: string) => void) => {
    const folder = mkdtempSync(join(tmpdir(), "redlock-quorum-links-"));
    try {
      for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
      check(folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  test("finds files and headings that are not there, in Markdown", () => {
    const text = [
      "# A `code` heading, and more",
      "[here](#a-code-heading-and-more) [web](https://example.com/#x) `[code](none.md)`",
      "[file](none.md) ![image](None.svg) [heading](#none) [other](b.md#none) [out](../b.md)",
      "[name](B.md)",
      "",
      "[reference]: c.md",
    ];
    withFiles({ "a.md": text.join("\n"), "b.md": "# B\n" }, (folder) => {
      expect(deadLinksOfMarkdown(folder, "a.md")).toEqual([
        "a.md: none.md: no such file",
        "a.md: None.svg: no such file",
        "a.md: #none: no such heading",
        "a.md: b.md#none: no such heading",
        "a.md: ../b.md: leads out of the repository",
        "a.md: B.md: no such file",
        "a.md: c.md: no such file",
      ]);
    });
  });

  test("finds files and ids that are not there, in pages", () => {
    const html = `<h1 id="top"><a href="#top"></a><a class="x" href="b.html#top"></a><img src="c.svg"/>
      <a href="#none"></a><a href="d.md"></a><a href="https://example.com/"></a></h1>`;
    withFiles({ "a.html": html, "b.html": "", "d.md": "" }, (folder) => {
      expect(deadLinksOfPages(folder)).toEqual([
        "a.html: b.html#top: no such id",
        "a.html: c.svg: no such file",
        "a.html: #none: no such id",
        "a.html: d.md: a guide that is not in the navigation",
      ]);
    });
  });

  test("knows two headings of the same words apart", () => {
    expect([...anchorsOfMarkdown("# A b\n## A b\n```sh\n# no\n```\n")]).toEqual(["a-b", "a-b-1"]);
  });
});
