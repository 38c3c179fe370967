import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { build } from "esbuild";
import { isReply } from "../../../src/clients/connection.js";

type Errors = Readonly<Record<string, new (...args: unknown[]) => Error>>;

const REPLIES = ["ErrorReply", "SimpleError", "BlobError"];

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "redlock-quorum-replies-"));
});

afterAll(() => rm(directory, { recursive: true }));

test.each(["redis", "redis-5", "redis-4"])(
  "error replies of %s are told from its own errors, also where a bundler has renamed their classes",
  async (name) => {
    const outfile = join(directory, `${name}.cjs`);
    await build({
      stdin: {
        contents: `module.exports = require(${JSON.stringify(name)})`,
        resolveDir: import.meta.dirname,
      },
      outfile,
      bundle: true,
      minify: true,
      platform: "node",
    });
    const redis = createRequire(import.meta.url)(outfile) as Errors;
    const all = Object.entries(redis).filter(([key]) => /Error/.test(key));
    const replies = all.filter(([key]) => REPLIES.includes(key));
    expect(replies.length).toBeGreaterThan(0);
    for (const [, Reply] of replies) {
      expect(Reply.name).not.toMatch(/Error/);
      expect(isReply(new Reply("NOPERM User app has no permissions"))).toBe(true);
    }
    const own = all.filter(([key]) => !/Reply|SimpleError|BlobError/.test(key));
    expect(own.length).toBeGreaterThan(7);
    for (const [key, Own] of own) {
      const args = key === "ReconnectStrategyError" ? [new Error("one"), new Error("two")] : [];
      expect([key, isReply(new Own(...args))]).toEqual([key, false]);
    }
    for (const thrown of [
      new TypeError("T is not a function"),
      new SyntaxError("JSON has an end"),
    ]) {
      expect(isReply(thrown)).toBe(false);
    }
    // As its client for Sentinels throws.
    expect(isReply(new Error("READONLY You can't write against a read only replica."))).toBe(false);
  },
);
