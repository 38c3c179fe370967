// Another version of this library, built: from a module that is there already, or from a commit.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const root = join(import.meta.dirname, "..");
const CACHE = join(root, "node_modules", ".cache", "other-builds");

/** The commit that a tag, branch or hash names; undefined if there is none. */
export function commitNamed(revision: string): string | undefined {
  try {
    return git("rev-parse", "--verify", "--quiet", "--end-of-options", `${revision}^{commit}`);
  } catch {
    return undefined;
  }
}

/** Returns the URL of a built module: of the file, or of this commit with the dependencies that it had. */
export function urlOfBuild(fileOrRevision: string): string {
  if (existsSync(fileOrRevision)) return pathToFileURL(resolve(fileOrRevision)).href;
  const commit = commitNamed(fileOrRevision);
  if (commit === undefined) throw new Error(`There is no file or commit ${fileOrRevision}.`);
  const folder = join(CACHE, commit);
  const built = join(folder, "dist", "index.js");
  if (!existsSync(built)) build(commit, folder);
  return pathToFileURL(built).href;
}

function build(commit: string, folder: string): void {
  console.error(`Builds ${commit.slice(0, 7)} …`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const archive = execFileSync("git", ["archive", commit], { cwd: root, maxBuffer: 2 ** 28 });
  execFileSync("tar", ["-x", "-C", folder], { input: archive });
  // What they print is shown only if they fail: it is part of the error.
  const inFolder = { cwd: folder, stdio: "pipe" } as const;
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], inFolder);
  execFileSync("npm", ["run", "build"], inFolder);
}

function git(...args: string[]): string {
  return execFileSync("git", args, {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  }).trim();
}
