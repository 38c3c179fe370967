// The files for contributors name only what exists.

import { accessSync, constants, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";

const root = join(import.meta.dirname, "..", "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const github = readdirSync(join(root, ".github"), { recursive: true, encoding: "utf8" })
  .filter((path) => /\.(yml|md)$/.test(path))
  .map((path) => join(".github", path));
const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };

describe("the files for contributors", () => {
  test.each(["CONTRIBUTING.md", "SECURITY.md", ...github])(
    "%s names only scripts that exist",
    (path) => {
      const named = Array.from(read(path).matchAll(/npm run ([\w:]+)/g), ([, name = ""]) => name);
      expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
    },
  );

  test("the workflow runs the script that CI runs here", () => {
    const commands = Array.from(
      read(".github/workflows/ci.yml").matchAll(/^ +- run: (.*)$/gm),
      ([, command = ""]) => command,
    );
    expect(commands).toContain(".ci/run");
    accessSync(join(root, ".ci/run"), constants.X_OK);
  });

  test("the workflow, .nvmrc and package.json agree on the oldest Node", () => {
    const { engines } = JSON.parse(read("package.json")) as { engines: { node: string } };
    const oldest = /^>=(\d+)/.exec(engines.node)?.[1];
    const tested = Array.from(read(".github/workflows/ci.yml").matchAll(/ node: (\d+),/g));
    expect(Math.min(...tested.map(([, major]) => Number(major)))).toBe(Number(oldest));
    expect(read(".nvmrc").trim()).toBe(oldest);
  });
});
