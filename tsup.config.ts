import { readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { type CompressOptions, minify } from "terser";
import { defineConfig, type Options } from "tsup";
import ts from "typescript";

type Plugin = NonNullable<Options["esbuildPlugins"]>[number];

/**
 * esbuild keeps the comments of class members, a sixth of the code. The types in `dist` have the docstrings. The comments of
 * the Lua scripts, and their indentation, would be sent to the servers, too.
 */
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
      const code = ts.transpileModule(text, { compilerOptions }).outputText;
      const isLua = path.includes("/operations/");
      return { contents: isLua ? code.replace(/^ *-- .*\n|^ +/gm, "") : code, loader: "js" };
    });
  },
};

const ENTRIES = {
  index: "src/index.ts",
  nestjs: "src/nestjs/index.ts",
  opentelemetry: "src/opentelemetry/index.ts",
  testing: "src/testing/index.ts",
};

const dts = {
  compilerOptions: {
    // tsup passes `baseUrl` to the declaration build, which TypeScript 6 rejects without this.
    ignoreDeprecations: "6.0",
    // Leaves out what only the library can make, and the types that only this needs.
    stripInternal: true,
  },
};

/** What makes the package smaller and keeps the names in a stack trace: 1.5 KB of 120. */
const SHORTER: CompressOptions = {
  toplevel: true,
  keep_classnames: true,
  keep_fnames: true,
  join_vars: true,
  reduce_vars: true,
  unused: true,
  collapse_vars: true,
  conditionals: true,
  if_return: true,
  booleans: true,
  dead_code: true,
  evaluate: true,
  properties: true,
  side_effects: true,
  sequences: true,
};

type ChunkPlugin = NonNullable<Options["plugins"]>[number];

/**
 * Turns the `createRequire` of `src/clients/load-ioredis.ts` into the `require` that a CommonJS module has, which bundlers
 * follow.
 */
const plainRequire: ChunkPlugin = {
  name: "plain-require",
  renderChunk: (code) => ({
    code: code
      .replace(/^import \{ createRequire \} from "(?:node:)?module";$/m, "")
      .replace(/^(?:var|const) load = createRequire\(import\.meta\.url\);$/m, "")
      .replace('load("ioredis")', 'require("ioredis")'),
  }),
};

/**
 * Leaves out the white space, and shortens the names of variables: a sixth of the package. The names of functions,
 * classes, methods and fields stay, so that a stack trace can be read. esbuild cannot tell these names apart. Not a plugin:
 * Rollup, which comes after all of them, would write the code out again.
 */
async function shorten(files: RegExp, options = SHORTER): Promise<void> {
  for (const file of (await readdir("dist")).filter((name) => files.test(name))) {
    const code = await readFile(join("dist", file), "utf8");
    // A class that is the value of a variable has the variable's name.
    const reserved = Array.from(code.matchAll(/^var (\w+) = class\b/gm), ([, name = ""]) => name);
    const mangle = { keep_classnames: true, keep_fnames: true, toplevel: true, reserved };
    const { code: short = code } = await minify(code, {
      compress: { ...options, defaults: false },
      mangle,
    });
    await writeFile(join("dist", file), short);
  }
}

/** They are ES modules only: bundled, `require()` works, also under Jest. */
const BUNDLED = ["p-timeout"];

const shared: Options = {
  format: ["cjs"],
  // The entries share their classes, or the Redlock that Nest injects would be another class than that of the main entry.
  splitting: true,
  target: "node20",
  // The maps were two thirds of the package.
  sourcemap: false,
  esbuildPlugins: [withoutComments],
  plugins: [plainRequire],
  // tsup splits CommonJS by sucrase, which turns each `?.` and `??` into a call of a function. Rollup leaves them.
  treeshake: true,
  noExternal: BUNDLED,
};

/**
 * Writes the ES modules, which load the CommonJS ones. So the package holds its code once, and a process that has both
 * imported and required it has one class `Redlock`, and not two that do not know each other's locks.
 */
async function writeModules(names: readonly string[]): Promise<void> {
  const load = createRequire(import.meta.url);
  for (const name of names) {
    const all = load(resolve(`dist/${name}.cjs`)) as Readonly<Record<string, unknown>>;
    const exported = Object.keys(all).sort();
    const named = exported.filter((key) => key !== "default");
    let code = `import all from "./${name}.cjs";\nexport const { ${named.join(", ")} } = all;\n`;
    let types = `export * from "./${name}.cjs";\n`;
    const asDefault = named.find((key) => all[key] === all["default"]);
    if (asDefault !== undefined) {
      code += `export default ${asDefault};\n`;
      types += `export { ${asDefault} as default } from "./${name}.cjs";\n`;
    }
    await writeFile(`dist/${name}.js`, code);
    await writeFile(`dist/${name}.d.ts`, types);
  }
}

/** Their licences ask for a copy of each notice. */
async function writeLicenses(): Promise<void> {
  const require = createRequire(import.meta.url);
  const notices = await Promise.all(
    [...BUNDLED, "commander"].map(async (name) => {
      const folder = dirname(require.resolve(name));
      const file = (await readdir(folder)).find((entry) => /^license$/i.test(entry)) ?? "license";
      const license = await readFile(join(folder, file), "utf8");
      return `${name}\n\n${license}`;
    }),
  );
  const heading = "The files of this folder contain these packages:\n\n";
  await writeFile("dist/bundled-licenses.txt", heading + notices.join("\n"));
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
  splitting: false,
  treeshake: false,
  minify: true,
  noExternal: ["commander"],
  define: { REDLOCK_QUORUM_VERSION: JSON.stringify(version) },
  esbuildPlugins: [libraryBeside, withoutComments],
  esbuildOptions: (options) => {
    // `import()` would start the loader of ES modules.
    options.supported = { ...options.supported, "dynamic-import": false };
  },
  onSuccess: () => shorten(/^cli\.cjs$/),
};

const { index, nestjs, opentelemetry, testing } = ENTRIES;

export default defineConfig([
  {
    ...shared,
    entry: { index, nestjs },
    // One build makes the declarations of all entries: each would compile the library and what it imports again.
    dts: { ...dts, entry: ENTRIES },
    onSuccess: async () => {
      await shorten(/^(index|nestjs|chunk-.*)\.cjs$/, {
        ...SHORTER,
        // Half a KB less; the command line would be longer by more.
        hoist_funs: true,
      });
      await writeLicenses();
      await writeModules(["index", "nestjs"]);
    },
  },
  // It shares no code with the others: it knows the channels by their names. Minified, to keep the package small.
  {
    ...shared,
    entry: { opentelemetry },
    splitting: false,
    treeshake: false,
    minify: true,
    onSuccess: async () => {
      await shorten(/^opentelemetry\.cjs$/);
      await writeModules(["opentelemetry"]);
    },
  },
  // Minified: only tests load it, and it would be a seventh of the package.
  {
    ...shared,
    entry: { testing },
    splitting: false,
    treeshake: false,
    minify: true,
    onSuccess: async () => {
      await shorten(/^testing\.cjs$/);
      await writeModules(["testing"]);
    },
  },
  commandLine,
]);
