import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

const root = join(import.meta.dirname, "..", "..");
/** Where one is packed already: see tests/run.ts. */
export const TARBALL_VARIABLE = "REDLOCK_QUORUM_TARBALL";
/** What it takes to build and pack; README.md is in the tarball, too. */
const sources = ["src", "package.json", "tsconfig.json", "tsup.config.ts", "LICENSE", "README.md"];
/** Against hanging, as the limit of each test: below that one, so that a program that hangs is named. */
const RUN_TIMEOUT_MS = 540_000;

export interface PackedPackage {
  /** A folder whose node_modules has redlock-quorum as npm would install it. */
  readonly directory: string;
  readonly tarball: string;
  remove(): Promise<void>;
}

export interface Outcome {
  /** The exit code; -1 where a signal ended it. */
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program in `cwd`, with none of the flags under which Jest itself runs. */
export function run(
  file: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const options = {
    cwd,
    env: { ...process.env, NODE_OPTIONS: "", ...env },
    timeout: RUN_TIMEOUT_MS,
  };
  return new Promise((resolve) => {
    const child = execFile(file, args, options, (_error, out, err) => {
      resolve({ code: child.exitCode ?? -1, out, err });
    });
  });
}

/** Runs a program of this project's node_modules. */
export function runTool(
  path: string,
  args: readonly string[],
  cwd: string,
  env?: NodeJS.ProcessEnv,
): Promise<Outcome> {
  return run(process.execPath, [join(root, "node_modules", path), ...args], cwd, env);
}

/** Inside the repository, so that ioredis and the compilers are found in its node_modules. */
function workFolder(): Promise<string> {
  return mkdtemp(join(root, "tests", "consumers", ".work-"));
}

/** Builds and packs a copy of the sources, as publishing would. Nothing is downloaded, and `dist` stays as it is. */
export async function pack(directory: string): Promise<string> {
  const stage = await workFolder();
  try {
    for (const source of sources) {
      await cp(join(root, source), join(stage, source), { recursive: true });
    }
    const offline = ["--offline", "--no-update-notifier"];
    await succeed("npm", ["pack", "--pack-destination", directory, ...offline], stage);
  } finally {
    await rm(stage, { recursive: true });
  }
  const name = (await readdir(directory)).find((entry) => entry.endsWith(".tgz"));
  return join(directory, name ?? "no tarball");
}

/** The packed package, unpacked where a package that depends on it would have it. */
export async function packPackage(): Promise<PackedPackage> {
  const directory = await workFolder();
  const installed = join(directory, "node_modules", "redlock-quorum");
  await mkdir(installed, { recursive: true });
  const tarball = process.env[TARBALL_VARIABLE] ?? (await pack(directory));
  await succeed("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"], directory);
  // Without one, the name redlock-quorum would be this project itself, and so its dist.
  await writeFile(join(directory, "package.json"), JSON.stringify({ private: true }));
  return {
    directory,
    tarball,
    remove: async () => {
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function succeed(file: string, args: readonly string[], cwd: string): Promise<void> {
  const { code, out, err } = await run(file, args, cwd);
  if (code !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${code}:\n${out}${err}`);
}
