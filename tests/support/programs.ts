// Programs that run in a process of their own, with the library in them. Node would take half a second to start one
// with tsx, which compiles every file of the library; from one bundled file it takes a tenth of one.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll } from "@jest/globals";
import { build, type BuildOptions, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..", "..");

/** The library loads ioredis by a `require` of its own, which the bundler would not follow. */
const plainRequire: Plugin = {
  name: "plain-require",
  setup: (setup) => {
    setup.onLoad({ filter: /\/load-ioredis\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      return { contents: text.replace('load("ioredis")', 'require("ioredis")'), loader: "ts" };
    });
  },
};

/** Bundles a program with all that it imports, as an ES module. */
export async function bundle(options: BuildOptions): Promise<void> {
  await build({
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    logLevel: "warning",
    plugins: [plainRequire],
    banner: {
      js: `import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);`,
    },
    ...options,
  });
}

/**
 * Makes programs of texts. They may import `./src/index.ts`, ioredis, and what else the constructor is told. The library
 * is bundled once for the test file, so make one at the top of it.
 *
 * @example
 * const programs = new Programs();
 * const args = programs.args(`import { Redlock } from "./src/index.ts"; …`);
 * spawn(process.execPath, args);
 */
export class Programs {
  readonly #modules: readonly string[];
  #directory = "";

  /** @param modules further files that the programs import, as they write it: `./src/testing/index.ts` */
  constructor(...modules: readonly string[]) {
    this.#modules = ["./src/index.ts", ...modules];
    beforeAll(async () => {
      this.#directory = await mkdtemp(join(tmpdir(), "redlock-quorum-programs-"));
      const exports = this.#modules.map((path) => `export * from ${JSON.stringify(path)};`);
      const contents = [...exports, `export { Cluster, Redis } from "ioredis";`].join("\n");
      await bundle({ stdin: { contents, resolveDir: root }, outfile: this.#file });
    });
    afterAll(() => rm(this.#directory, { recursive: true, force: true }));
  }

  get #file(): string {
    return join(this.#directory, "library.mjs");
  }

  /** The arguments with which Node runs the program. */
  args(text: string): string[] {
    const url = JSON.stringify(pathToFileURL(this.#file).href);
    const program = ["ioredis", ...this.#modules].reduce(
      (result, name) => result.replaceAll(`from "${name}"`, `from ${url}`),
      text,
    );
    return ["--input-type=module", "--eval", program];
  }
}
