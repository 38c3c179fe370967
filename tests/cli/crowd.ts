import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cli, CliOutcome } from "../support/cli.js";

/** What many `redlock run` on one resource did. */
export interface Crowd {
  readonly outcomes: readonly CliOutcome[];
  /** Each line is a number one higher than the one before, unless two commands ran at once. */
  readonly lines: readonly string[];
}

/** Adds one to a number in a file, without any protection but the lock, and keeps a list. */
const ADD_ONE =
  'mkdir busy || echo "two at once"; n=$(cat n); sleep 0.01; echo $((n + 1)) | tee n; rmdir busy';

/** Starts many `redlock run` at once, whose commands each add one to a number in a file. */
export async function crowd(cli: Cli, name: string, size: number): Promise<Crowd> {
  const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-crowd-"));
  try {
    await writeFile(join(directory, "n"), "0\n");
    const script = `cd "$0" && { ${ADD_ONE}; } >> log 2>&1`;
    const args = [
      "run",
      "--node-timeout",
      "5s",
      "--wait",
      "1h",
      name,
      "--",
      "sh",
      "-c",
      script,
      directory,
    ];
    const outcomes = await Promise.all(Array.from({ length: size }, () => cli.call(args)));
    const log = await readFile(join(directory, "log"), "utf8");
    return { outcomes, lines: log.trim().split("\n") };
  } finally {
    await rm(directory, { recursive: true });
  }
}
