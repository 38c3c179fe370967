// Makes a Redis or Valkey server of another Debian release run on this machine, beside the installed one.
// Nothing is installed: the packages are unpacked in a folder, and the server runs with the C library and
// the loader of its own release.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { interruption } from "./interruption.js";
import { findOnPath } from "../support/servers.js";
import { versionOf } from "../support/server-version.js";

export interface DebianServer {
  /** The name on the command line and of the folder in the cache. */
  readonly id: string;
  readonly suite: string;
  readonly package: "redis-server" | "valkey-server";
}

/** The exit status where a server cannot be had. From sysexits.h: a service is not available. */
export const UNAVAILABLE = 69;

/** This machine has no apt-get and dpkg, no Debian mirror, or no way to reach it: no server can be unpacked here. */
export class NoDebianError extends Error {
  override readonly name = "NoDebianError";
}

const execute = promisify(execFile);
/** Far above what it takes over a slow connection. */
const APT_TIMEOUT_MS = 300_000;
/** How apt says that there is no way to a mirror, as opposed to a mirror without the release. */
const UNREACHABLE =
  /Could not (connect|resolve)|Temporary failure|Network is unreachable|timed out/;

/**
 * Returns the path of the server's program, which is unpacked first unless the cache has it.
 *
 * @throws NoDebianError on a machine without Debian's packages.
 */
export async function unpackedServer(server: DebianServer, cache: string): Promise<string> {
  const folder = join(cache, server.id);
  const program = join(folder, server.package);
  if (await runs(program)) return program;
  await rm(folder, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  // Made elsewhere first, so that an interrupted run leaves no half of a server under its name.
  const stage = await mkdtemp(join(cache, `${server.id}-`));
  try {
    const unpacked = join(stage, "unpacked");
    for (const file of await download(server, join(stage, "apt"))) {
      await execute("dpkg", ["-x", file, unpacked]);
    }
    const kept = join(stage, "kept");
    await keep(server, unpacked, kept);
    await rename(kept, folder);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
  await versionOf(program);
  return program;
}

function runs(program: string): Promise<boolean> {
  return versionOf(program).then(
    () => true,
    () => false,
  );
}

/** Downloads the package and all that it depends on, with lists and a state of apt's own. */
async function download({ suite, package: name }: DebianServer, state: string): Promise<string[]> {
  const archives = join(state, "archives");
  for (const folder of ["lists/partial", "archives/partial"]) {
    await mkdir(join(state, folder), { recursive: true });
  }
  const sources = join(state, "sources.list");
  const mirror = await debianMirror();
  await writeFile(sources, `deb ${mirror} ${suite} main\n`);
  // An empty status: apt takes nothing for installed, and so downloads the C library as well.
  const status = join(state, "status");
  await writeFile(status, "");
  const settings = [
    `Dir::Etc::SourceList=${sources}`,
    "Dir::Etc::SourceParts=/dev/null",
    `Dir::State::Lists=${join(state, "lists")}`,
    `Dir::State::status=${status}`,
    `Dir::Cache::archives=${archives}`,
    "Dir::Cache::pkgcache=",
    "Dir::Cache::srcpkgcache=",
    // What is downloaded lies in a folder of this user, which apt's own user may not enter.
    "APT::Sandbox::User=root",
    "Debug::NoLocking=1",
    "Acquire::Retries=3",
    // Otherwise a mirror that cannot be reached is only a warning.
    "APT::Update::Error-Mode=any",
  ].map((setting) => `-o${setting}`);
  const apt = async (...args: string[]) => {
    const options = { timeout: APT_TIMEOUT_MS, signal: interruption };
    await execute("apt-get", ["-qq", ...settings, ...args], options).catch((error: unknown) => {
      interruption.throwIfAborted();
      const said = stderrOf(error);
      if (UNREACHABLE.test(said)) throw new NoDebianError(`${mirror} cannot be reached`);
      throw new Error(`apt-get ${args.join(" ")} of ${suite} failed: ${said}`);
    });
  };
  await apt("update");
  await apt("-y", "--no-install-recommends", "--download-only", "install", name);
  const files = await readdir(archives);
  return files.filter((file) => file.endsWith(".deb")).map((file) => join(archives, file));
}

function stderrOf(error: unknown): string {
  const isOfProcess = typeof error === "object" && error !== null && "stderr" in error;
  return isOfProcess ? String(error.stderr).trim() : String(error);
}

/** The mirror from which this machine gets its own packages. */
async function debianMirror(): Promise<string> {
  for (const program of ["apt-get", "dpkg"]) {
    if ((await findOnPath(program)) === undefined)
      throw new NoDebianError(`there is no ${program}`);
  }
  const { stdout } = await execute("apt-get", ["indextargets", "--format", "$(REPO_URI)"]);
  const mirror = stdout.split("\n").find((uri) => /\/debian\/?$/.test(uri));
  if (mirror === undefined) throw new NoDebianError("apt has no Debian mirror");
  return mirror;
}

/** Moves the server and the libraries to `kept`, with a script that runs the one with the others. */
async function keep({ package: name }: DebianServer, unpacked: string, kept: string) {
  const triple = (await readdir(join(unpacked, "usr/lib"))).find((one) => one.includes("-linux-"));
  if (triple === undefined) throw new Error(`the packages of ${name} have no libraries`);
  // Debian 11 has libraries in /lib as well, and its server takes Lua's cjson from a file.
  const folders = [`usr/lib/${triple}`, `lib/${triple}`, "usr/share/lua"];
  for (const folder of folders.filter((path) => existsSync(join(unpacked, path)))) {
    await mkdir(dirname(join(kept, folder)), { recursive: true });
    await rename(join(unpacked, folder), join(kept, folder));
  }
  const loader = await findLoader(kept, folders);
  // The package's programs are links to one, which looks at the name under which it runs.
  await mkdir(join(kept, "libexec"));
  await copyFile(join(unpacked, "usr/bin", name), join(kept, "libexec", name));
  const launcher = `#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
export LUA_PATH="$here/usr/share/lua/5.1/?.lua"
export LUA_CPATH="$here/usr/lib/${triple}/lua/5.1/?.so"
exec "$here/${loader}" --library-path "$here/usr/lib/${triple}:$here/lib/${triple}" "$here/libexec/${name}" "$@"
`;
  await writeFile(join(kept, name), launcher, { mode: 0o755 });
}

async function findLoader(kept: string, folders: readonly string[]): Promise<string> {
  for (const folder of folders.filter((path) => existsSync(join(kept, path)))) {
    const loader = (await readdir(join(kept, folder))).find((file) => file.startsWith("ld-linux"));
    if (loader !== undefined) return join(folder, loader);
  }
  throw new Error("the C library of that release has no loader");
}
