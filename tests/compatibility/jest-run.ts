import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { coloured } from "../support/terminal.js";
import { interruption } from "./interruption.js";

export const root = join(import.meta.dirname, "..", "..");

export interface JestRun {
  /** The Node that runs Jest. Left out, this one. */
  readonly node?: string;
  readonly config?: string;
  /** Paths of tests, or what they contain. */
  readonly tests: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** One text for each failed test, or test file: its name and what was wrong. */
  readonly failures: readonly string[];
}

/** What Jest writes with `--json`, as far as it is read here. */
interface Report {
  readonly success: boolean;
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/** Runs tests in a process of their own and counts them. A file that cannot be loaded counts as a failed test. */
export async function runJest({ node, config, tests, env }: JestRun): Promise<Counts> {
  const folder = await mkdtemp(join(tmpdir(), "redlock-quorum-jest-"));
  const file = join(folder, "report.json");
  const beganMs = performance.now();
  try {
    const args = [
      ...["--experimental-vm-modules", "--disable-warning=ExperimentalWarning"],
      join(root, "node_modules/jest/bin/jest.js"),
      ...["--config", join(root, config ?? "jest.config.js"), "--json", "--outputFile", file],
      ...tests,
    ];
    const printed = await run(node ?? process.execPath, args, env);
    const seconds = Math.round((performance.now() - beganMs) / 1000);
    const text = await readFile(file, "utf8").catch(() => undefined);
    if (text === undefined) throw new Error(`Jest ended without a report:\n${printed}`);
    return countsOf(JSON.parse(text) as Report, seconds);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Prints the failures of a run, and its verdict. */
export function printCounts(what: string, counts: Counts): void {
  const { passed, failed, skipped, seconds, failures } = counts;
  for (const failure of failures) console.log(failure);
  const verdict = failed === 0 ? coloured("green", "PASS") : coloured("red", "FAIL");
  const figures = `${passed} passed, ${failed} failed, ${skipped} skipped`;
  console.log(`${verdict} ${what}: ${figures} in ${seconds} s`);
}

/** What the process printed on stderr. */
async function run(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(file, args, {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: "", ...env },
    stdio: ["ignore", "ignore", "pipe"],
    signal: interruption,
  });
  let printed = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (printed += text));
  await once(child, "close");
  return printed;
}

function countsOf(report: Report, seconds: number): Counts {
  const failedFiles = report.testResults.filter(({ status }) => status === "failed");
  const isUnloaded = ({ assertionResults }: Report["testResults"][number]) =>
    assertionResults.every(({ status }) => status !== "failed");
  const failed = report.numFailedTests + failedFiles.filter(isUnloaded).length;
  const nothingRan = report.numPassedTests + failed === 0;
  return {
    passed: report.numPassedTests,
    // Jest has other reasons to fail than a test, such as a global set-up.
    failed: failed > 0 || (report.success && !nothingRan) ? failed : 1,
    skipped: report.numPendingTests,
    seconds,
    failures: [
      ...failedFiles.map(({ name, message }) => `${name}\n${stripVTControlCharacters(message)}`),
      ...(nothingRan ? ["No test ran."] : []),
    ],
  };
}
