import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { Consumers, expectSilence } from "../support/consumers.js";
import { runTool } from "../support/packed-package.js";

const TSC = { "5.9": "typescript-5/bin/tsc", "6": "typescript/bin/tsc" };

const packed = new Consumers();

describe("takes a lock on real servers", () => {
  test("in Jest's CommonJS mode, without a flag", async () => {
    const directory = await packed.install("jest");
    const args = ["--rootDir", directory, "--runInBand", "--no-cache"];
    const outcome = await runTool("jest/bin/jest.js", args, directory, {
      NODES: packed.urls.join(" "),
    });
    expect(outcome.err).toContain("1 passed");
    expect(outcome.err).not.toContain("Warning");
    expect(outcome.code).toBe(0);
    const values = (await packed.valuesOf("free")).filter((value) =>
      /^[0-9a-f]{32} \S+\/\d+$/.test(value),
    );
    expect(values.length).toBeGreaterThanOrEqual(2);
  });
});

/** With real and with fake timers; in Jest also with fake timers that are there before the library is loaded. */
describe("a user's unit tests on nodes in memory pass", () => {
  test("in Jest", async () => {
    const directory = await packed.install("memory-jest");
    const args = ["--rootDir", directory, "--runInBand", "--no-cache"];
    const outcome = await runTool("jest/bin/jest.js", args, directory);
    expect(outcome.err).toContain("11 passed, 11 total");
    expect(outcome.code).toBe(0);
  });

  test("in Vitest", async () => {
    const directory = await packed.install("memory-vitest");
    const args = ["run", "--root", directory, "--reporter", "json"];
    const outcome = await runTool("vitest/vitest.mjs", args, directory);
    expect(JSON.parse(outcome.out)).toMatchObject({ success: true, numPassedTests: 7 });
    expect(outcome.code).toBe(0);
  });
});

/** With clients of ioredis 5 and 6, without a cast, and the types of every library checked. */
describe("a TypeScript project", () => {
  test.each([
    ["5.9", "commonjs", "commonjs"],
    ["5.9", "nodenext", "module"],
    ["6", "nodenext", "commonjs"],
    ["6", "nodenext", "module"],
  ] as const)(
    "of TypeScript %s and module: %s, in a package of type %s, compiles and takes a lock",
    async (version, module, type) => {
      const directory = await project(`typescript-${version}-${module}-${type}`, type);
      expectSilence(await compile(version, directory, module));
      const printed = await packed.runProgram(join("out", "main.js"), directory);
      expect(printed).toMatchObject({ taken: null, same: true });
    },
  );

  test.each(["5.9", "6"] as const)(
    "of TypeScript %s with moduleResolution: bundler compiles",
    async (version) => {
      const directory = await project(`typescript-${version}-bundler`, "module");
      expectSilence(await compile(version, directory, "bundler"));
    },
  );

  async function project(name: string, type: "commonjs" | "module"): Promise<string> {
    const directory = await packed.install("typescript", name);
    await writeFile(join(directory, "package.json"), JSON.stringify({ private: true, type }));
    // An ES module names a neighbour with its extension.
    const main = join(directory, "main.ts");
    const text = await readFile(main, "utf8");
    if (type === "module") await writeFile(main, text.replace(`"./clients"`, `"./clients.js"`));
    return directory;
  }

  function compile(version: keyof typeof TSC, directory: string, module: string) {
    return runTool(TSC[version], ["--project", `tsconfig.${module}.json`], directory);
  }
});

/** With the decorators that TypeScript compiles, in the two ways in which Nest's starter projects are set up. */
describe("a Nest application", () => {
  test.each([
    ["5.9", "commonjs", "commonjs"],
    ["6", "nodenext", "commonjs"],
    ["6", "nodenext", "module"],
  ] as const)(
    "of TypeScript %s and module: %s, in a package of type %s, compiles, locks and shuts down",
    async (version, module, type) => {
      const directory = await packed.install("nestjs", `nestjs-${version}-${module}-${type}`);
      await writeFile(join(directory, "package.json"), JSON.stringify({ private: true, type }));
      const args = ["--project", `tsconfig.${module}.json`];
      expectSilence(await runTool(TSC[version], args, directory));
      const printed = await packed.runProgram(join("out", "main.js"), directory);
      expect(printed).toMatchObject({ shipped: "7 shipped", refused: "ERR_REDLOCK_QUORUM" });
    },
  );
});

describe("a program written for node-redlock 5", () => {
  test("compiles and works after its import line alone was changed", async () => {
    const directory = await packed.install("node-redlock");
    const path = join(directory, "program.ts");
    const before = await readFile(path, "utf8");
    const after = before.replace(`from "redlock";`, `from "redlock-quorum";`);
    expect(changedLines(before, after)).toBe(1);
    await writeFile(path, after);

    expectSilence(await runTool(TSC["5.9"], ["--project", "tsconfig.json"], directory));
    const printed = await packed.runProgram(join("out", "program.js"), directory);
    const refusal = "The operation was applied to: 0 of the 1 requested resources.";
    expect(printed).toMatchObject({
      taken: expect.arrayContaining([refusal]),
      transferred: "transferred",
      resources: ["free"],
      inTime: true,
      retryCount: 2,
    });
  });

  function changedLines(before: string, after: string): number {
    const lines = after.split("\n");
    return before.split("\n").filter((line, index) => line !== lines[index]).length;
  }
});
