// What the packed package's types declare is what docs/api/ says: nothing becomes public, or changes, unnoticed.

import { mkdtemp, readdir, readFile, rm, appendFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type PackedPackage, packPackage, runTool } from "../support/packed-package.js";

const root = join(import.meta.dirname, "..", "..");
const recorded = join(root, "docs", "api");

/** What is not exported but visible: the base class, and types of what a caller passes in, which no caller has to name. */
const UNNAMED = {
  index: ["RedlockEmitter", "Routine", "Subscriber"],
  nestjs: ["Takes"],
  opentelemetry: [],
  testing: [],
};
const entries = Object.keys(UNNAMED) as (keyof typeof UNNAMED)[];

let packed: PackedPackage | undefined;
let folder = "";
let now = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "redlock-quorum-api-test-"));
  packed = await packPackage();
  now = await writeReports("now");
});

afterAll(async () => {
  await packed?.remove();
  await rm(folder, { recursive: true, force: true });
});

/** Writes the reports of the packed package as it is now, in a process of their own, and returns their folder. */
async function writeReports(name: string): Promise<string> {
  const out = join(folder, name);
  const args = ["tests/support/api-report.ts", "--consumer", packed?.directory ?? "", "--out", out];
  expect(await runTool("tsx/dist/cli.mjs", args, root)).toMatchObject({ code: 0, err: "" });
  return out;
}

/** The names that a report declares without exporting them. */
async function unexportedIn(reports: string, entry: string): Promise<string[]> {
  const text = await readFile(join(reports, `${entry}.api.md`), "utf8");
  const declarations = text.matchAll(
    /^(?:declare )?(?:abstract )?(?:class|interface|type|function|const|enum|namespace) (\w+)/gm,
  );
  const names = [...declarations].map(([, name = ""]) => name);
  return names.filter((name) => !text.includes(`\nexport { ${name} }\n`)).sort();
}

describe("the published types", () => {
  test.each(entries)("of the entry %s are those of its report", async (entry) => {
    const report = `${entry}.api.md`;
    const [before, after] = await Promise.all(
      [recorded, now].map((reports) => readFile(join(reports, report), "utf8")),
    );
    // If the change is intended: `npm run api` writes the reports again.
    expect(after).toBe(before);
  });

  test("have a report for each entry, and no other", async () => {
    expect((await readdir(recorded)).sort()).toEqual(entries.map((name) => `${name}.api.md`));
  });

  test.each(entries)("of the entry %s show no part of the library's inside", async (entry) => {
    expect(await unexportedIn(now, entry)).toEqual(UNNAMED[entry]);
  });

  test("would not pass with a part of the inside", async () => {
    const types = join(packed?.directory ?? "", "node_modules/redlock-quorum/dist/index.d.cts");
    const leak = "declare class Ballot {}\nexport declare function leak(): Ballot;\n";
    await appendFile(types, leak);
    const reports = await writeReports("leaking");
    expect(await unexportedIn(reports, "index")).toContain("Ballot");
  });
});
