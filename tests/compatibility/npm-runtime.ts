import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { interruption } from "./interruption.js";

const execute = promisify(execFile);
const OPTIONS = [
  "--no-save",
  "--no-audit",
  "--no-fund",
  "--no-update-notifier",
  "--loglevel=error",
];

/** Installs an npm package, such as `node@22` or the path of a tarball, in a folder of its own. */
export async function npmInstall(name: string, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const description = JSON.stringify({ private: true, type: "module" });
  await writeFile(join(folder, "package.json"), description);
  await execute("npm", ["install", ...OPTIONS, name], { cwd: folder, signal: interruption });
}

/** Returns the path of a program that an npm package brings, which is installed first unless the folder has it. */
export async function installedProgram(
  packageName: string,
  program: string,
  folder: string,
): Promise<string> {
  const path = join(folder, "node_modules", ".bin", program);
  const isThere = await programVersion(path).then(
    () => true,
    () => false,
  );
  if (!isThere) await npmInstall(packageName, folder);
  await programVersion(path);
  return path;
}

/** Returns the version that the program prints, such as `22.23.3`. */
export async function programVersion(program: string): Promise<string> {
  const { stdout } = await execute(program, ["--version"], { signal: interruption });
  const version = /\d+\.\d+\.\d+/.exec(stdout)?.[0];
  if (version === undefined) throw new Error(`${program} --version printed no version: ${stdout}`);
  return version;
}
