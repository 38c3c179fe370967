import { expect, test } from "@jest/globals";
import { join } from "node:path";
import { runTool } from "../support/packed-package.js";

const root = join(import.meta.dirname, "..", "..");

test("redlock-quorum/nestjs works with Nest 10, as the package allows", async () => {
  const { code, err } = await runTool(
    "jest/bin/jest.js",
    ["--config", "tests/compatibility/jest.nest-10.config.js", "tests/redis/nestjs"],
    root,
    { NODE_OPTIONS: "--experimental-vm-modules" },
  );
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  expect(err).toMatch(/^Tests: +[1-9]\d* passed, [1-9]\d* total$/m);
});
