import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { build } from "esbuild";

/**
 * The most bytes that an acquire and a release may allocate, with 64 users in one process and five nodes that reply at
 * once (docs/performance.md). With a reason, it may be raised.
 */
const MOST_BYTES = 11_450;
const PLANTED_BYTES = 1024;

/** Without threads, V8 compiles at the same moments in each run. In a young generation this large, nothing is collected. */
const FLAGS = [
  "--single-threaded",
  "--expose-gc",
  "--min-semi-space-size=128",
  "--max-semi-space-size=128",
];

/** Prints the bytes for each acquire and release, in the best of some rounds. */
const PROGRAM = `
  const { Redlock } = await import(process.env.LIBRARY);
  const USERS = 64;
  const ofBatch = JSON.stringify(Array(USERS).fill(1));
  const client = (port) => ({
    status: "ready",
    options: { host: "stub", port, socketTimeout: 1 },
    on: () => undefined,
    connect: () => Promise.resolve(),
    quit: () => Promise.resolve(),
    disconnect: () => undefined,
    call: () => Promise.resolve(ofBatch),
  });
  const redlock = new Redlock([1, 2, 3, 4, 5].map(client), { restartGuard: false, retryCount: 0 });
  const use = async (resource, times) => {
    for (let i = 0; i < times; i++) await (await redlock.acquire(resource, 30_000)).release();
  };
  const useAll = (times) => Promise.all(Array.from({ length: USERS }, (_, i) => use("r" + i, times)));
  await useAll(800);
  let least = Infinity;
  for (let round = 0; round < 5; round++) {
    gc();
    const before = process.memoryUsage().heapUsed;
    await useAll(50);
    least = Math.min(least, (process.memoryUsage().heapUsed - before) / (50 * USERS));
  }
  console.log(Math.round(least));
`;

// What V8 leaves out differs from one version to the next.
const isMeasured = process.version.startsWith("v20.");

describe("an acquire and a release, of 64 users", () => {
  const folder = mkdtempSync(join(tmpdir(), "redlock-allocations-"));
  const library = join(folder, "library.mjs");
  const planted = join(folder, "planted.mjs");

  beforeAll(async () => {
    await build({
      entryPoints: ["src/index.ts"],
      outfile: library,
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node20",
    });
    const text = await readFile(library, "utf8");
    const parts = text.split("const value = call.newValue();");
    expect(parts).toHaveLength(2);
    const more = `globalThis.planted = new Array(${PLANTED_BYTES / 8}).fill(0);`;
    await writeFile(planted, parts.join(`const value = call.newValue(); ${more}`));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  async function bytesWith(file: string): Promise<number> {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [...FLAGS, "--input-type=module", "--eval", PROGRAM],
      { env: { ...process.env, NODE_OPTIONS: "", LIBRARY: pathToFileURL(file).href } },
    );
    return Number(stdout);
  }

  (isMeasured ? test : test.skip)(
    `allocate at most ${MOST_BYTES} bytes, and a kilobyte more is noticed`,
    async () => {
      const bytes = await bytesWith(library);
      const withPlanted = await bytesWith(planted);
      expect({ bytes, isWithin: bytes <= MOST_BYTES }).toEqual({ bytes, isWithin: true });
      expect(withPlanted - bytes).toBeGreaterThan(0.9 * PLANTED_BYTES);
      expect(withPlanted).toBeGreaterThan(MOST_BYTES);
    },
  );
});
