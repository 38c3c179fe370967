import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from "@jest/globals";
import { ask, type RedisServer, startServers, stopAll } from "../docker/servers.js";
import {
  type Outcome,
  type PackedPackage,
  packPackage,
  run,
  runTool,
} from "./support/packed-package.js";

const consumers = join(import.meta.dirname, "consumers");
const TSC = { "5.9": "typescript-5/bin/tsc", "6": "typescript/bin/tsc" };

jest.setTimeout(300_000);

let packed: PackedPackage | undefined;
let servers: RedisServer[] = [];

beforeAll(async () => {
  packed = await packPackage();
  servers = await startServers(3);
});

afterAll(async () => {
  await stopAll(servers);
  await packed?.remove();
});

/** Each consumer leaves "free" locked, and is refused "taken". */
beforeEach(async () => {
  for (const { port } of servers) {
    await ask(port, ["FLUSHALL"]);
    await ask(port, ["SET", "taken", "by the test"]);
  }
});

/** A copy of a fixture next to the package, as a project that depends on it. */
async function install(fixture: string, name = fixture): Promise<string> {
  const directory = join(packed?.directory ?? "", name);
  await mkdir(directory);
  await cp(join(consumers, fixture), directory, { recursive: true });
  return directory;
}

function urls(): string[] {
  return servers.map(({ url }) => url);
}

/** What each server holds; empty where it holds nothing. */
async function valuesOf(resource: string): Promise<string[]> {
  const command = ["EVAL", "return redis.call('GET', KEYS[1]) or ''", "1", resource];
  return Promise.all(servers.map(({ port }) => ask(port, command)));
}

/** What the program printed, once it took the lock on a majority of real servers. */
async function runProgram(file: string, directory: string): Promise<Record<string, unknown>> {
  const outcome = await run(process.execPath, [file, ...urls()], directory);
  expect({ ...outcome, out: "" }).toEqual({ code: 0, out: "", err: "" });
  const printed = JSON.parse(outcome.out) as Record<string, unknown>;
  expect(printed["value"]).toMatch(/^[0-9a-f]{32}$/);
  const holding = (await valuesOf("free")).filter((value) => value === printed["value"]);
  expect(holding.length).toBeGreaterThanOrEqual(2);
  return printed;
}

function expectSilence(outcome: Outcome): void {
  expect(outcome).toEqual({ code: 0, out: "", err: "" });
}

describe("the packed package", () => {
  test("holds the builds with their types, the licence and the documents, and nothing else", async () => {
    const { out } = await run("tar", ["-tzf", packed?.tarball ?? ""], consumers);
    const builds = ["cjs", "js"].flatMap((format) => [
      `package/dist/index.${format}`,
      `package/dist/index.${format}.map`,
      `package/dist/index.d.${format.replace("js", "ts")}`,
    ]);
    const documents = ["CHANGELOG.md", "LICENSE", "README.md", "package.json"];
    expect(out.trim().split("\n").sort()).toEqual(
      [...builds, ...documents.map((name) => `package/${name}`)].sort(),
    );
  });

  test("publint --strict reports nothing", async () => {
    const { tarball = "", directory = "" } = packed ?? {};
    const { code, out } = await runTool(
      "publint/src/cli.js",
      ["run", "--strict", tarball],
      directory,
    );
    expect(out).toContain("All good!");
    expect(code).toBe(0);
  });

  test("attw --profile node16 reports nothing", async () => {
    const { tarball = "", directory = "" } = packed ?? {};
    const cli = "@arethetypeswrong/cli/dist/index.js";
    const { code, out } = await runTool(cli, ["--profile", "node16", tarball], directory);
    expect(out).toContain("No problems found");
    expect(code).toBe(0);
  });
});

describe("takes a lock on real servers", () => {
  test("from an ES module, by `import`", async () => {
    const directory = await install("esm");
    expect(await runProgram("main.js", directory)).toMatchObject({ taken: null, same: true });
  });

  test("from a CommonJS module, by `require()`", async () => {
    const directory = await install("commonjs");
    expect(await runProgram("main.js", directory)).toMatchObject({ taken: null, same: true });
  });

  test("in Jest's CommonJS mode, without a flag", async () => {
    const directory = await install("jest");
    const args = ["--rootDir", directory, "--runInBand", "--no-cache"];
    const outcome = await runTool("jest/bin/jest.js", args, directory, { NODES: urls().join(" ") });
    expect(outcome.err).toContain("1 passed");
    expect(outcome.err).not.toContain("Warning");
    expect(outcome.code).toBe(0);
    const values = (await valuesOf("free")).filter((value) => /^[0-9a-f]{32}$/.test(value));
    expect(values.length).toBeGreaterThanOrEqual(2);
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
      const printed = await runProgram(join("out", "main.js"), directory);
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
    const directory = await install("typescript", name);
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

describe("a program written for node-redlock 5", () => {
  test("compiles and works after its import line alone was changed", async () => {
    const directory = await install("node-redlock");
    const path = join(directory, "program.ts");
    const before = await readFile(path, "utf8");
    const after = before.replace(`from "redlock";`, `from "redlock-quorum";`);
    expect(changedLines(before, after)).toBe(1);
    await writeFile(path, after);

    expectSilence(await runTool(TSC["5.9"], ["--project", "tsconfig.json"], directory));
    const printed = await runProgram(join("out", "program.js"), directory);
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
