import { stat } from "node:fs/promises";
import { describe, expect, test } from "@jest/globals";
import { Consumers, consumers } from "../support/consumers.js";
import { run, runTool } from "../support/packed-package.js";

const packed = new Consumers();

describe("the packed package", () => {
  test("holds the builds with their types, the licence and the documents, and nothing else", async () => {
    const { out } = await run("tar", ["-tzf", packed.tarball], consumers);
    const builds = ["cjs", "js"].flatMap((format) => [
      `package/dist/index.${format}`,
      `package/dist/index.d.${format.replace("js", "ts")}`,
    ]);
    const documents = [
      ...["CHANGELOG.md", "LICENSE", "README.md", "package.json"],
      "dist/bundled-licenses.txt",
    ];
    expect(out.trim().split("\n").sort()).toEqual(
      [...builds, ...documents.map((name) => `package/${name}`)].sort(),
    );
  });

  test("is at most 120 KB to download", async () => {
    expect((await stat(packed.tarball)).size).toBeLessThanOrEqual(120_000);
  });

  test("publint --strict reports nothing", async () => {
    const { tarball, directory } = packed;
    const { code, out } = await runTool(
      "publint/src/cli.js",
      ["run", "--strict", tarball],
      directory,
    );
    expect(out).toContain("All good!");
    expect(code).toBe(0);
  });

  test("attw --profile node16 reports nothing", async () => {
    const { tarball, directory } = packed;
    const cli = "@arethetypeswrong/cli/dist/index.js";
    const { code, out } = await runTool(cli, ["--profile", "node16", tarball], directory);
    expect(out).toContain("No problems found");
    expect(code).toBe(0);
  });
});

describe("takes a lock on real servers", () => {
  test("from an ES module, by `import`", async () => {
    const directory = await packed.install("esm");
    expect(await packed.runProgram("main.js", directory)).toMatchObject({
      taken: null,
      same: true,
    });
  });

  test("from a CommonJS module, by `require()`", async () => {
    const directory = await packed.install("commonjs");
    expect(await packed.runProgram("main.js", directory)).toMatchObject({
      taken: null,
      same: true,
    });
  });
});
