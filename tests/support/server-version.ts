import { execFile } from "node:child_process";
import { promisify } from "node:util";

export interface ServerVersion {
  readonly name: "Redis" | "Valkey";
  /** Such as `8.0.2`. */
  readonly version: string;
}

/** Returns what the program says of itself when it is called with `--version`. */
export async function versionOf(binary: string): Promise<ServerVersion> {
  const { stdout } = await promisify(execFile)(binary, ["--version"]);
  const [, name, version] = /^(Redis|Valkey) server v=([\d.]+)/.exec(stdout) ?? [];
  if ((name !== "Redis" && name !== "Valkey") || version === undefined) {
    throw new Error(`${binary} --version printed no version: ${stdout}`);
  }
  return { name, version };
}

/** Whether `version` is that of `major.minor` or a later one. Every Valkey is later than Redis 7.0. */
export function isAtLeast({ version }: ServerVersion, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split(".").map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
