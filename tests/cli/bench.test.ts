import { describe, expect, test } from "@jest/globals";
import { Cli } from "../support/cli.js";
import { defined } from "../support/nodes.js";
import { ask, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

const servers = useServers(3);
const cli = new Cli(servers);

const BUSY_MS = 60_000;
const PATIENT = ["--node-timeout", "5s"];

interface Part {
  readonly users: number;
  readonly locks: number;
  readonly locksPerSecond: number;
  readonly steps: Record<string, { p50Ms: number; p99Ms: number; maxMs: number }>;
}

async function untilEmpty(): Promise<void> {
  const sizes = () => Promise.all(servers.map(({ port }) => ask(port, ["DBSIZE"])));
  await until(
    async () => (await sizes()).every((size) => Number(size) === 0),
    BUSY_MS,
    () => "a key is left",
  );
}

describe("redlock bench", () => {
  test("measures each step with one user and with several, and leaves nothing behind", async () => {
    const args = ["bench", "--users", "4", "--count", "40", "--duration", "1h", ...PATIENT];
    const { status, out, err } = await cli.call([...args, "--json"]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    const parts = JSON.parse(out) as Part[];
    expect(parts.map(({ users, locks }) => ({ users, locks }))).toEqual([
      { users: 1, locks: 40 },
      { users: 4, locks: 40 },
    ]);
    for (const { locksPerSecond, steps } of parts) {
      expect(locksPerSecond).toBeGreaterThan(0);
      expect(Object.keys(steps)).toEqual(["acquire", "extend", "release"]);
      for (const { p50Ms, p99Ms, maxMs } of Object.values(steps)) {
        expect(p50Ms).toBeGreaterThan(0);
        expect(p99Ms).toBeGreaterThanOrEqual(p50Ms);
        expect(maxMs).toBeGreaterThanOrEqual(p99Ms);
      }
    }
    await untilEmpty();
  });

  test("prints a table, and ends after its duration", async () => {
    const args = ["bench", "--users", "2", "--count", "1000000", "--duration", "200ms"];
    const { status, out, err } = await cli.call([...args, ...PATIENT]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toMatch(/^1 user: \d+ locks, \d+ a second\n +p50 +p99 +longest\n {2}acquire +\d/);
    expect(out).toMatch(/\n\n2 users at once: \d+ locks, \d+ a second\n/);
    expect(out).toMatch(/^ {2}release( +[\d.]+ m?s){3}$/m);
    await untilEmpty();
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("on %s, releases its locks and ends with status %i", async (signal, status) => {
    const args = ["bench", "--users", "16", "--count", "1000000", "--duration", "1h"];
    const call = cli.start([...args, ...PATIENT]);
    const isAtWork = async (): Promise<boolean> => {
      const stats = await ask(defined(servers[0]).port, ["INFO", "commandstats"]);
      return Number(/^cmdstat_set:calls=(\d+)/m.exec(stats)?.[1] ?? 0) > 100;
    };
    await ask(defined(servers[0]).port, ["CONFIG", "RESETSTAT"]);
    await until(isAtWork, BUSY_MS, call.err);
    call.child.kill(signal);
    expect(await call.ended).toEqual({ status, out: "", err: "" });
    await untilEmpty();
  });

  test("has status 69 without a quorum, and names the nodes", async () => {
    const nodes = "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
    const { status, out, err } = await cli.call(["bench", "--nodes", nodes]);
    expect({ status, out }).toEqual({ status: 69, out: "" });
    expect(err).toMatch(/^redlock: .*127\.0\.0\.1:2 ECONNREFUSED.* redlock doctor\.\n$/);
    expect(err.trimEnd()).not.toContain("\n");
  });
});
