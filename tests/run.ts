// npm test [-- OPTIONS OF JEST]      the checks, and every test that is not long
// npm run test:all [-- …]            the checks, and every test
//
// The checks run beside the tests, and as important: check:lint takes a minute of one processor, and with what the tests
// leave it would end after them.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pack, TARBALL_VARIABLE } from "./support/packed-package.js";

// The types are checked by a rule of check:lint.
const CHECKS = ["check:lint", "check:format"];
const QUICK = ["--config", "jest.quick.config.js"];
/** The checks make gigabytes of short-lived objects. With more room for these, V8 collects garbage a tenth less. */
const CHECK_OPTIONS = `${process.env["NODE_OPTIONS"] ?? ""} --max-semi-space-size=64`;

/** Whether it ended with 0. What it prints is shown at its end, where that is to be seen. */
function run(args: readonly string[], env: NodeJS.ProcessEnv, isQuiet: boolean): Promise<boolean> {
  const child = spawn("npm", ["run", "--silent", ...args], {
    stdio: isQuiet ? ["ignore", "pipe", "pipe"] : "inherit",
    env: { ...process.env, ...env },
  });
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => (printed += text));
  }
  return new Promise((resolve) => {
    child.on("close", (code) => {
      if (code !== 0) process.stdout.write(printed);
      resolve(code === 0);
    });
  });
}

async function check(name: string): Promise<boolean> {
  return report(name, await run([name], { NODE_OPTIONS: CHECK_OPTIONS }, true));
}

function report(name: string, isGood: boolean): boolean {
  console.log(`${isGood ? "PASS" : "FAIL"} npm run ${name}`);
  return isGood;
}

/** The tests that need the package share one; without it, each of them packs, and shows what is wrong. */
async function packOnce(directory: string): Promise<string | undefined> {
  try {
    return await pack(directory);
  } catch (error) {
    console.log(error instanceof Error ? error.message : error);
    return undefined;
  }
}

async function main(): Promise<boolean> {
  const [which, ...args] = process.argv.slice(2);
  const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-tests-"));
  try {
    const checks = CHECKS.map(check);
    const tarball = await packOnce(directory);
    report("build", tarball !== undefined);
    const jest = ["jest", "--", ...(which === "all" ? [] : QUICK), ...args];
    const tests = await run(jest, { [TARBALL_VARIABLE]: tarball }, false);
    return [tests, tarball !== undefined, ...(await Promise.all(checks))].every(Boolean);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

process.exitCode = (await main()) ? 0 : 1;
