import { readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { transform } from "esbuild";
import { defineConfig, type Options } from "tsup";
import ts from "typescript";

type Plugin = NonNullable<Options["esbuildPlugins"]>[number];

/** esbuild keeps the comments of class members, a sixth of the code. The types in `dist` have the docstrings. */
const withoutComments: Plugin = {
  name: "without-comments",
  setup: (build) => {
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
      const compilerOptions = {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
        removeComments: true,
      };
      const text = await readFile(path, "utf8");
      return { contents: ts.transpileModule(text, { compilerOptions }).outputText, loader: "js" };
    });
  },
};

const entries = { index: "src/index.ts", nestjs: "src/nestjs/index.ts" };
const testing = { testing: "src/testing/index.ts" };

const shared: Options = {
  // The entries share their classes, or the Redlock that Nest injects would be another class than that of the main entry.
  splitting: true,
  target: "node20",
  // The code in `dist` is readable as it is, and the maps were two thirds of the package.
  sourcemap: false,
  esbuildPlugins: [withoutComments],
};

const dts: Options["dts"] = {
  compilerOptions: {
    // tsup passes `baseUrl` to the declaration build, which TypeScript 6 rejects without this.
    ignoreDeprecations: "6.0",
    // Leaves out what only the library can make, and the types that only this needs.
    stripInternal: true,
  },
};

/**
 * Lets ES modules load the testing kit's CommonJS: the package holds its code once, and a process loads it once. No other
 * entry shares code with it.
 */
const testingOnce: Plugin = {
  name: "testing-once",
  setup: (build) => {
    build.onLoad({ filter: /\/src\/testing\/index\.ts$/ }, () => ({
      contents: `import testing from "./testing.cjs";\nexport const { memoryNodes } = testing;\n`,
      loader: "js",
    }));
    build.onResolve({ filter: /^\.\/testing\.cjs$/ }, ({ path }) => ({ path, external: true }));
  },
};

/** Both formats have the same types, so that the package holds them once. */
async function writeModuleTypes(): Promise<void> {
  const main = `export * from "./index.cjs";\nexport { Redlock as default } from "./index.cjs";\n`;
  await writeFile("dist/index.d.ts", main);
  for (const name of ["nestjs", "testing"]) {
    await writeFile(`dist/${name}.d.ts`, `export * from "./${name}.cjs";\n`);
  }
}

/** They are ES modules only: bundled, `require()` works, also under Jest. */
const BUNDLED = ["p-retry", "p-timeout", "is-network-error"];

/** Their licences ask for a copy of each notice. */
async function writeLicenses(): Promise<void> {
  const { resolve } = createRequire(import.meta.url);
  const notices = await Promise.all(
    [...BUNDLED, "commander"].map(async (name) => {
      const folder = dirname(resolve(name));
      const file = (await readdir(folder)).find((entry) => /^license$/i.test(entry)) ?? "license";
      const license = await readFile(join(folder, file), "utf8");
      return `${name}\n\n${license}`;
    }),
  );
  const heading = "The CommonJS files contain these packages:\n\n";
  await writeFile("dist/bundled-licenses.txt", heading + notices.join("\n"));
}

/** The package holds two copies of the code. Without its indentation, this one is a tenth smaller. */
async function compactCommonJs(): Promise<void> {
  for (const name of (await readdir("dist")).filter((name) => /^chunk-.*\.cjs$/.test(name))) {
    const path = join("dist", name);
    const { code } = await transform(await readFile(path, "utf8"), { minifyWhitespace: true });
    await writeFile(path, code);
  }
}

const { version } = createRequire(import.meta.url)("./package.json") as { version: string };

/** The command line loads the library from beside it, and only when it needs the library. */
const libraryBeside: Plugin = {
  name: "library-beside",
  setup: (build) => {
    build.onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({
      path: "./index.cjs",
      external: true,
    }));
  },
};

/** Bundled, so that nobody who only uses the library installs commander. CommonJS, since it loads faster. */
const commandLine: Options = {
  ...shared,
  entry: { cli: "src/cli/main.ts" },
  format: ["cjs"],
  splitting: false,
  minify: true,
  noExternal: ["commander"],
  define: { REDLOCK_QUORUM_VERSION: JSON.stringify(version) },
  esbuildPlugins: [libraryBeside, withoutComments],
  esbuildOptions: (options) => {
    // `import()` would start the loader of ES modules.
    options.supported = { ...options.supported, "dynamic-import": false };
  },
};

export default defineConfig([
  {
    ...shared,
    entry: { ...entries, ...testing },
    format: ["esm"],
    esbuildPlugins: [testingOnce, withoutComments],
    onSuccess: writeModuleTypes,
  },
  // tsup splits CommonJS by sucrase, which turns each `?.` and `??` into a call of a function. Rollup leaves them.
  {
    ...shared,
    entry: entries,
    format: ["cjs"],
    dts,
    treeshake: true,
    noExternal: BUNDLED,
    onSuccess: async () => {
      await writeLicenses();
      await compactCommonJs();
    },
  },
  // Minified: only tests load it, and it would be a seventh of the package.
  { ...shared, entry: testing, format: ["cjs"], dts, splitting: false, minify: true },
  commandLine,
]);
