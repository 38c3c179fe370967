import { readFile } from "node:fs/promises";
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

const shared: Options = {
  entry: ["src/index.ts"],
  target: "node20",
  // The code in `dist` is readable as it is, and the maps were two thirds of the package.
  sourcemap: false,
  esbuildPlugins: [withoutComments],
  dts: {
    compilerOptions: {
      // tsup passes `baseUrl` to the declaration build, which TypeScript 6 rejects without this.
      ignoreDeprecations: "6.0",
      // Leaves out what only the library can make, and the types that only this needs.
      stripInternal: true,
    },
  },
};

export default defineConfig([
  { ...shared, format: ["esm"] },
  // p-retry and p-timeout are ES modules only: bundled, `require()` works, also under Jest.
  { ...shared, format: ["cjs"], noExternal: ["p-retry", "p-timeout", "is-network-error"] },
]);
