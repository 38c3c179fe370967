import { copyFile, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { builtinModules } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { Consumers, consumers } from "../support/consumers.js";
import { run, runTool } from "../support/packed-package.js";

const packed = new Consumers();

describe("the packed package", () => {
  test("holds the builds with their types, the licence and the documents, and nothing else", async () => {
    const { out } = await run("tar", ["-tzf", packed.tarball], consumers);
    const builds = ["cjs", "js"].flatMap((format) => {
      const types = format.replace("js", "ts");
      const entries = ["index", "nestjs", "opentelemetry", "testing"].flatMap((name) => [
        `${name}.${format}`,
        `${name}.d.${types}`,
      ]);
      // The code that the entries share. The ES modules load the CommonJS ones.
      return [...entries, "chunk-HASH.cjs"].map((name) => `package/dist/${name}`);
    });
    builds.push("package/dist/cli.cjs");
    const documents = [...["LICENSE", "README.md", "package.json"], "dist/bundled-licenses.txt"];
    const found = out.trim().replace(/(?<=\/chunk-)[\w-]{8}(?=\.)/, "HASH");
    expect(found.split("\n").sort()).toEqual(
      [...new Set(builds), ...documents.map((name) => `package/${name}`)].sort(),
    );
  });

  test("is at most 120 KB to download", async () => {
    expect((await stat(packed.tarball)).size).toBeLessThanOrEqual(120_000);
  });

  test("imports Nest in its entry for Nest only", async () => {
    const dist = join(packed.directory, "node_modules", "redlock-quorum", "dist");
    const files = (await readdir(dist)).filter((name) => /\.[cm]?[jt]s$/.test(name));
    const texts = await Promise.all(files.map((name) => readFile(join(dist, name), "utf8")));
    const importing = files.filter((_, index) => texts[index]?.includes("@nestjs/"));
    expect(importing.sort()).toEqual(["nestjs.cjs", "nestjs.d.cts"]);
    const alsoImporting = files.filter((_, index) => /["']\.\/nestjs/.test(texts[index] ?? ""));
    expect(alsoImporting.sort()).toEqual(["nestjs.d.ts", "nestjs.js"]);
  });

  test("imports OpenTelemetry in its entry for OpenTelemetry only, which loads nothing else", async () => {
    const dist = join(packed.directory, "node_modules", "redlock-quorum", "dist");
    const files = (await readdir(dist)).filter((name) => /\.[cm]?[jt]s$/.test(name));
    const texts = await Promise.all(files.map((name) => readFile(join(dist, name), "utf8")));
    const importing = files.filter((_, index) => texts[index]?.includes("@opentelemetry/"));
    expect(importing.sort()).toEqual(["opentelemetry.cjs", "opentelemetry.d.cts"]);
    const code = texts[files.indexOf("opentelemetry.cjs")] ?? "";
    const required = [...code.matchAll(/require\(['"]([^'"]+)['"]\)/g)].map(([, name]) => name);
    const builtin = ["async_hooks", "diagnostics_channel", "util"];
    expect([...new Set(required)].sort()).toEqual(["@opentelemetry/api", ...builtin]);
  });

  test("is one and the same, imported and required", async () => {
    const program = `
      import { createRequire } from "node:module";
      import Default, * as module from "redlock-quorum";
      const commonjs = createRequire(import.meta.url)("redlock-quorum");
      const names = Object.keys(commonjs);
      console.log(JSON.stringify([names.every((name) => module[name] === commonjs[name]), names.sort(), Default.name]));
    `;
    const args = ["--input-type=module", "--eval", program];
    const { out } = await run(process.execPath, args, packed.directory);
    const names = ["ExecutionError", "Lock", "LockLostError", "NodeError", "Redlock"];
    expect(JSON.parse(out)).toEqual([
      true,
      [...names, "ResourceLockedError", "default"],
      "Redlock",
    ]);
  });

  test("holds the testing kit once, and its main entry does not load it", async () => {
    const program = `
      import { createRequire } from "node:module";
      const require = createRequire(import.meta.url);
      const isLoaded = () => Object.keys(require.cache).some((path) => path.endsWith("/dist/testing.cjs"));
      await import("redlock-quorum");
      require("redlock-quorum");
      const before = isLoaded();
      const module = await import("redlock-quorum/testing");
      const commonjs = require("redlock-quorum/testing");
      const isSame = Object.keys(commonjs).every((name) => module[name] === commonjs[name]);
      console.log(JSON.stringify([before, isLoaded(), isSame, Object.keys(commonjs)]));
    `;
    const args = ["--input-type=module", "--eval", program];
    const { out } = await run(process.execPath, args, packed.directory);
    expect(JSON.parse(out)).toEqual([false, true, true, ["memoryNodes"]]);
  });

  test.each([
    ["imported", 'const { Redlock } = await import("redlock-quorum");'],
    ["required", 'const { Redlock } = require("redlock-quorum");'],
  ])("loads ioredis when the first URL is given, not before: %s", async (_, load) => {
    const program = `
      import { createRequire } from "node:module";
      const require = createRequire(import.meta.url);
      const isLoaded = () => Object.keys(require.cache).some((path) => path.includes("/ioredis/"));
      ${load}
      const { memoryNodes } = require("redlock-quorum/testing");
      const redlock = new Redlock(memoryNodes(3));
      const lock = await redlock.acquire("free", 10_000);
      const before = isLoaded();
      await redlock.quit();
      const other = new Redlock(["redis://127.0.0.1:1"]);
      console.log(JSON.stringify([lock.valid, before, isLoaded()]));
      await other.quit();
    `;
    const args = ["--input-type=module", "--eval", program];
    const { out, err } = await run(process.execPath, args, packed.directory);
    expect({ out: JSON.parse(out) as unknown, err }).toEqual({ out: [true, false, true], err: "" });
  });

  test("can be bundled with ioredis into one file, which needs no package", async () => {
    const directory = await packed.install("esm", "bundled");
    const outfile = join(directory, "bundle", "main.mjs");
    const options = ["--bundle", "--platform=node", "--format=esm", `--outfile=${outfile}`];
    // What esbuild documents for CommonJS in an ES module.
    const banner =
      "--banner:js=import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";
    const esbuild = join(consumers, "..", "..", "node_modules", ".bin", "esbuild");
    const built = await run(esbuild, ["main.js", ...options, banner], directory);
    expect({ ...built, err: "" }).toEqual({ code: 0, out: "", err: "" });
    const elsewhere = await mkdtemp(join(tmpdir(), "redlock-quorum-bundle-"));
    try {
      await copyFile(outfile, join(elsewhere, "main.mjs"));
      expect(await packed.runProgram("main.mjs", elsewhere)).toMatchObject({ taken: null });
    } finally {
      await rm(elsewhere, { recursive: true });
    }
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

describe("the program redlock of the packed package", () => {
  const redlock = (...args: string[]) =>
    run(
      join(packed.directory, "node_modules", "redlock-quorum", "dist", "cli.cjs"),
      args,
      packed.directory,
    );

  test("is the package's bin, says its version, and runs a command under a lock", async () => {
    const manifest = await readFile(
      join(packed.directory, "node_modules", "redlock-quorum", "package.json"),
      "utf8",
    );
    const { bin, version } = JSON.parse(manifest) as { bin: unknown; version: string };
    expect(bin).toEqual({ redlock: "dist/cli.cjs" });
    expect(await redlock("--version")).toEqual({ code: 0, out: `${version}\n`, err: "" });
    const nodes = ["--nodes", packed.urls.join(",")];
    const ran = await redlock("run", ...nodes, "free", "--", "sh", "-c", "echo $REDLOCK_VALUE");
    expect(ran).toMatchObject({ code: 0, err: "" });
    expect(ran.out).toMatch(/^[0-9a-f]{32} \S+\n$/);
    expect(await redlock("run", "--no-wait", ...nodes, "taken", "--", "true")).toMatchObject({
      code: 75,
    });
  });

  test("needs no package that the library does not need", async () => {
    const path = join(packed.directory, "node_modules", "redlock-quorum", "dist", "cli.cjs");
    const required = [...(await readFile(path, "utf8")).matchAll(/require\("([^"]+)"\)/g)];
    const names = new Set(required.map(([, name = ""]) => name.replace(/^node:/, "")));
    expect([...names].filter((name) => !builtinModules.includes(name))).toEqual([
      "./index.cjs",
      "ioredis",
    ]);
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
