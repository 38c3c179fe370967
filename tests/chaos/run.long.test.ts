import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "redlock-quorum-chaos-"));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

/** A run that must end with violations. Gives what it printed. */
function broken(what: string, ...options: string[]): Promise<string> {
  const args = ["--import", "tsx", "tests/chaos/run.ts", "--break", what];
  args.push("--minutes", "0.2", "--seed", "9", "--logs", folder, ...options);
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, (error, stdout, stderr) => {
      if (error?.code === 1) resolve(stdout);
      else reject(new Error(`ended with ${String(error?.code ?? 0)}: ${stdout}${stderr}`));
    });
  });
}

test("clients whose locks exclude nobody are found out by overlaps and lost updates", async () => {
  const report = await broken("no-lock");
  expect(report).toMatch(/^Overlaps +[1-9]/m);
  expect(report).toMatch(/^Lost updates +[1-9]/m);
});

test("readers whose locks exclude nobody are found out by overlaps, and by reads that differ", async () => {
  const report = await broken("no-lock", "--readers");
  expect(report).toMatch(/^Overlaps +[1-9]/m);
  expect(report).toMatch(/^Readers beside others +[1-9]/m);
  expect(report).toMatch(/^ +changed in between +[1-9]/m);
});

test("clients that write without a look at their lock are found out by lost updates", async () => {
  const report = await broken("no-check");
  expect(report).toMatch(/^Writes begun past the validity +[1-9]/m);
  expect(report).toMatch(/^Lost updates +[1-9]/m);
});

test("with fencing, clients that write without a look at their lock are refused and lose no update", async () => {
  const report = await broken("no-check", "--fencing");
  expect(report).toMatch(/^Writes begun past the validity +[1-9]/m);
  expect(report).toMatch(/^Writes .*\([1-9]\d* refused\)$/m);
  expect(report).toMatch(/^Lost updates +0$/m);
  expect(report).not.toMatch(/^ +(?:lost update|overlap|tokens|stale|fresh) /m);
});
