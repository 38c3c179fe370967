// The package as its users run it: built by tsup. Under tsx, which keeps each closure's name at
// run time, an acquire takes 5 % longer.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "tsup";
import type * as Source from "../src/index.js";

export type Package = typeof Source;

const root = join(import.meta.dirname, "..");

/** Builds `src` anew and gives the module's URL. What was built goes when this process ends. */
export async function buildPackage(): Promise<string> {
  // Below the project, so that the built module finds its dependencies.
  const cache = join(root, "node_modules", ".cache");
  mkdirSync(cache, { recursive: true });
  const outDir = mkdtempSync(join(cache, "redlock-quorum-"));
  process.once("exit", () => {
    rmSync(outDir, { recursive: true, force: true });
  });
  await build({
    config: false,
    silent: true,
    entry: [join(root, "src", "index.ts")],
    format: ["esm"],
    target: "node20",
    outDir,
  });
  return pathToFileURL(join(outDir, "index.js")).href;
}

export async function loadPackage(url: string): Promise<Package> {
  return (await import(url)) as Package;
}
