// What the commands of package.json say of themselves and of wrong arguments.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { runTool } from "../support/packed-package.js";

const root = join(import.meta.dirname, "..", "..");
const files = {
  demo: "docker/demo.ts",
  cluster: "docker/cluster.ts",
  simulate: "tests/simulation/main.ts",
  chaos: "tests/chaos/run.ts",
  bench: "benchmarks/run.ts",
  docs: "docs/site/build.ts",
  api: "tests/support/api-report.ts",
  "test:clients": "tests/compatibility/clients.ts",
  "test:servers": "tests/compatibility/servers.ts",
  "test:runtimes": "tests/compatibility/runtimes.ts",
};

function command(name: keyof typeof files, ...args: string[]) {
  return runTool("tsx/dist/cli.mjs", [files[name], ...args], root);
}

describe("a command", () => {
  test.each(Object.keys(files) as (keyof typeof files)[])(
    "npm run %s -- --help fits 80 columns and names the exit codes",
    async (name) => {
      const { code, out, err } = await command(name, "--help");
      expect({ code, err }).toEqual({ code: 0, err: "" });
      expect(out).toMatch(new RegExp(`^Usage: npm run ${name} `));
      expect(out).toMatch(/^Exit status: 0 /m);
      expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
    },
  );

  test.each<[keyof typeof files, string, RegExp]>([
    ["demo", "--locla", /unknown option '--locla'\. Did you mean --local\?/],
    ["cluster", "up --volumes", /--volumes goes only with down\./],
    ["simulate", "--schedules many", /argument 'many' is invalid\. Give a whole number/],
    ["chaos", "--minutes 0", /argument '0' is invalid\. Give a number above 0\./],
    ["chaos", "--break glass", /Give no-lock or no-check\./],
    ["bench", "--scenario users,none", /There is no scenario none\./],
    ["bench", "--against no-such-tag", /--against: there is no file or commit no-such-tag\./],
    ["bench", "--against HEAD --docs", /--against has no place in the docs: leave out --docs\./],
    ["test:clients", "ioredis-4", /Allowed choices are ioredis-6, .*, node-redis-4\./],
    ["test:clients", "--servers redis-5", /Allowed are all, or some of redis-6\.0, .*, valkey-9\./],
    ["test:servers", "redis-5", /Allowed choices are redis-6\.0, .*, valkey-9\./],
    ["test:runtimes", "node-18", /Allowed choices are node-20, .*, deno\./],
  ])("npm run %s -- %s says in one line what is wrong", async (name, args, what) => {
    const { code, out, err } = await command(name, ...args.split(" "));
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(what);
    expect(err).toMatch(
      new RegExp(`^npm run ${name}: .* Run npm run ${name} -- --help for the options\\.\n$`),
    );
  });

  test("npm run bench does not print a URL of --nodes, which may hold a password", async () => {
    const { code, err } = await command("bench", "--nodes", "redis://a,http://:secret@b");
    expect(code).toBe(2);
    expect(err).toContain("URL number 2 of --nodes");
    expect(err).not.toContain("secret");
  });
});

test("npm run test:servers says so on a machine without Debian's packages, and does not pass", async () => {
  const cache = await mkdtemp(join(tmpdir(), "redlock-quorum-cache-"));
  try {
    const program = [files["test:servers"], "valkey-9"];
    const env = { PATH: "", XDG_CACHE_HOME: cache };
    const { code, out, err } = await runTool("tsx/dist/cli.mjs", program, root, env);
    expect({ code, out }).toEqual({ code: 69, out: "" });
    expect(err).toMatch(/^NOT RUN: valkey-9 is not in the cache, .*: there is no apt-get\.\n$/);
  } finally {
    await rm(cache, { recursive: true });
  }
});
