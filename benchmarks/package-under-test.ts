// The package as its users run it: built by tsup. Under tsx, which keeps each closure's name at
// run time, an acquire takes 5 % longer.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build, type Options } from "tsup";
import type * as Source from "../src/index.js";

export type Package = typeof Source;

const root = join(import.meta.dirname, "..");

type Plugin = NonNullable<Options["esbuildPlugins"]>[number];

/** Leaves the diagnostics channels out, to see what the library costs without them. */
const withoutChannels: Plugin = {
  name: "without-channels",
  setup: (under) => {
    under.onResolve({ filter: /\/tracing\.js$/ }, () => ({
      path: join(import.meta.dirname, "without-channels.ts"),
    }));
  },
};

/** The entries of a build. All but the first are of the scenario `telemetry` alone. */
const ENTRIES = {
  index: join(root, "src", "index.ts"),
  opentelemetry: join(root, "src", "opentelemetry", "index.ts"),
  tracing: join(root, "src", "algorithm", "tracing.ts"),
};

/** Builds `src` anew and gives the module's URL. What was built goes when this process ends. */
export async function buildPackage({ hasChannels = true } = {}): Promise<string> {
  const outDir = makeFolder();
  await build({
    config: false,
    silent: true,
    entry: hasChannels ? ENTRIES : { index: ENTRIES.index },
    format: ["esm"],
    target: "node20",
    esbuildPlugins: hasChannels ? [] : [withoutChannels],
    outDir,
  });
  return urlOfEntry(pathToFileURL(`${outDir}/`).href, "index");
}

/** The URL of another entry of the same build, or of the same published package. */
export function urlOfEntry(packageUrl: string, name: string): string {
  return new URL(`./${name}.js`, packageUrl).href;
}

/** Builds everything as it is published, but for the types. Gives the folder, which goes when this process ends. */
export async function buildPublished(): Promise<string> {
  const outDir = makeFolder();
  const own = { outDir, dts: false, silent: true, onSuccess: () => Promise.resolve() };
  await build({ config: join(root, "tsup.config.ts"), ...own });
  return outDir;
}

/** Below the project, so that what is built finds its dependencies. */
function makeFolder(): string {
  const cache = join(root, "node_modules", ".cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "redlock-quorum-"));
  process.once("exit", () => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export async function loadPackage(url: string): Promise<Package> {
  return (await import(url)) as Package;
}
