// What happens to the command of `redlock run` when the lock is lost, and to the lock when redlock is killed.

import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { Redlock } from "../../src/index.js";
import { Cli, type CliCall } from "../support/cli.js";
import { defined, fresh } from "../support/nodes.js";
import { ask, processHasEnded, slowness, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

let redlock: Redlock;
const servers = useServers(5, { beforeStop: () => redlock.quit() });
const cli = new Cli(servers);

const START_MS = 60_000;
const TTL_MS = 5000;
/** How many losses the test of SIGTERM and SIGKILL looks at. */
const LOSSES = Number(process.env["REDLOCK_QUORUM_LOSSES"] ?? 5);
/** What a step may take beyond what it promises, on a busy machine. */
const MARGIN_MS = 400;

/** Ignores SIGTERM, but prints when it comes; and prints its pid and, every few ms, the time. */
const STUBBORN = [
  "const say = (what) => require('fs').writeSync(1, what + '\\n');",
  "say(process.pid);",
  "process.on('SIGTERM', () => say('term ' + Date.now()));",
  "setInterval(() => say(Date.now()), 3);",
].join("");

const orphans: number[] = [];

beforeAll(() => {
  redlock = new Redlock(
    servers.map(({ url }) => url),
    { nodeTimeout: 5000 },
  );
});

afterEach(() => {
  for (const server of servers) server.thaw();
  for (const pid of orphans.splice(0)) if (!processHasEnded(pid)) process.kill(pid, "SIGKILL");
});

/** When each server's key expires, in epoch ms. The time is read before, so that none is too late. */
async function expiriesOf(name: string): Promise<number[]> {
  const expiries = servers.map(async ({ port }) => {
    const now = Date.now();
    return now + Number(await ask(port, ["PTTL", name]));
  });
  return (await Promise.all(expiries)).sort((a, b) => a - b);
}

async function started(call: CliCall): Promise<number> {
  await until(() => call.out().includes("\n"), START_MS, call.err);
  const pid = Number(call.out().split("\n", 1)[0]);
  orphans.push(pid);
  return pid;
}

/** The processes with this command line that have not ended. */
function pidsOf(line: string): number[] {
  const pids = readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0);
  return pids.filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
      return words.join(" ").trim() === line && !processHasEnded(pid);
    } catch {
      return false;
    }
  });
}

interface Death {
  /** All in ms before the first of the keys expired. */
  readonly termMs: number;
  readonly killMs: number;
}

/** Freezes a majority under a stubborn command. Undefined if the machine was too slow to tell. */
async function deathUnderFrozenMajority(): Promise<Death | undefined> {
  const name = fresh();
  const call = cli.start([
    "run",
    "--ttl",
    `${TTL_MS}ms`,
    name,
    "--",
    process.execPath,
    "-e",
    STUBBORN,
  ]);
  const pid = await started(call);
  // The time in which the connections open counts into the first term, but not into the life of its keys.
  const [first = NaN] = await expiriesOf(name);
  let expiries: readonly number[] = [];
  await until(
    async () => {
      expiries = await expiriesOf(name);
      return Number(expiries[0]) > first + TTL_MS / 10;
    },
    START_MS,
    () => "the lock is not extended",
  );
  await Promise.all(servers.slice(0, 3).map((server) => server.freeze()));
  const [end = NaN] = expiries;
  // Otherwise an extension may have moved the expiry after it was read.
  const isExact = end - Date.now() > (TTL_MS * 2) / 5;
  const { status, out, err } = await call.ended;
  for (const server of servers) server.thaw();
  expect(status).toBe(70);
  expect(err).toMatch(
    /^redlock: The lock was lost before .* had ended, or was about to be\. .* run it again\.\n$/,
  );
  expect(processHasEnded(pid)).toBe(true);
  if (!isExact) return undefined;
  const lines = out.trim().split("\n");
  const term = lines.find((line) => line.startsWith("term "))?.slice("term ".length);
  return { termMs: end - Number(term), killMs: end - Number(lines.at(-1)) };
}

describe("when a majority of the nodes freezes, the command", () => {
  test("gets SIGTERM before the validity ends, and SIGKILL before the first key expires", async () => {
    const deaths: Death[] = [];
    for (let tries = 0; deaths.length < LOSSES && tries < 3 * LOSSES; tries++) {
      const death = await deathUnderFrozenMajority();
      if (death !== undefined) deaths.push(death);
    }
    expect(deaths).toHaveLength(LOSSES);
    for (const { termMs, killMs } of deaths) {
      // A sixth of the ttl, less the drift allowance; a later timer may take from it, but not all.
      expect(termMs).toBeGreaterThan(killMs);
      expect(termMs).toBeLessThan(TTL_MS / 6 + TTL_MS / 100 + MARGIN_MS);
      expect(killMs).toBeGreaterThan(0);
    }
  });

  test("may end by itself on SIGTERM: the status is 70 all the same, and the message says why", async () => {
    const script = "trap 'echo cleaned up; exit 0' TERM; echo $$; while :; do sleep 0.05; done";
    const call = cli.start(["run", "--ttl", "2s", fresh(), "--", "sh", "-c", script]);
    await started(call);
    await Promise.all(servers.slice(0, 3).map((server) => server.freeze()));
    const { status, out, err } = await call.ended;
    expect(status).toBe(70);
    expect(out).toMatch(/\ncleaned up\n$/);
    // The shell reports that its sleep was terminated, too.
    expect(err.match(/^redlock: .*$/gm)).toHaveLength(1);
    expect(err).toMatch(
      /^redlock: The lock was lost before sh had ended, or was about to be\. .*\n$/m,
    );
  });

  test.each([
    ["in its process group", `trap "" TERM; "$0" -e "$1" & wait; wait; wait`],
    ["in a group of its own, by timeout", `timeout 10m "$0" -e "$1"; echo over`],
    ["under a lock of its own", `"$0" "$2" run --ttl 1h "$3" -- "$0" -e "$1"; echo over`],
  ])("is ended with all that it has started %s", async (_, script) => {
    const call = cli.start([
      ...["run", "--ttl", "2s", fresh(), "--"],
      ...["sh", "-c", script, process.execPath, STUBBORN, cli.path, fresh()],
    ]);
    const grandchild = await started(call);
    // Not its output, which ends only when all that have it have ended, the grandchild among them.
    const exit = once(call.child, "exit");
    await Promise.all(servers.slice(0, 3).map((server) => server.freeze()));
    expect(await exit).toEqual([70, null]);
    await until(
      () => processHasEnded(grandchild),
      5000,
      () => "the grandchild lives",
    );
  });
});

test("nothing is left of a script that goes on starting commands, in a group of its own", async () => {
  const mark = `600.${process.pid}`;
  const script = `echo $$; while :; do sleep ${mark} & sleep 0.001; done`;
  const call = cli.start([
    ...["run", "--ttl", "2s", fresh(), "--"],
    ...["sh", "-c", `timeout 10m sh -c "$0"; echo over`, script],
  ]);
  await started(call);
  const exit = once(call.child, "exit");
  await Promise.all(servers.slice(0, 3).map((server) => server.freeze()));
  expect(await exit).toEqual([70, null]);
  const left = pidsOf(`sleep ${mark}`);
  orphans.push(...left);
  expect(left).toEqual([]);
});

test("while a minority of the nodes is frozen, the command runs to its end", async () => {
  const call = cli.start(["run", "--ttl", "3s", fresh(), "--", "sh", "-c", "echo $$; sleep 5"]);
  await started(call);
  await Promise.all(servers.slice(0, 2).map((server) => server.freeze()));
  expect(await call.ended).toMatchObject({ status: 0, err: "" });
});

test("when the lock cannot be released, the status is the command's own, and redlock says so", async () => {
  const pids = servers.slice(0, 3).map(({ pid }) => pid);
  const script = ["sh", "-c", `kill -STOP ${pids.join(" ")}; exit 5`];
  const { status, err } = await cli.call([
    "run",
    "--node-timeout",
    "500ms",
    fresh(),
    "--",
    ...script,
  ]);
  expect(status).toBe(5);
  expect(err).toMatch(
    /^redlock: The lock was not released; it ends by itself within its ttl\. .* no answer .*\n$/,
  );
});

test("when an operator ends the lock, the command is killed at the next extension", async () => {
  const name = fresh();
  const call = cli.start(["run", "--ttl", "3s", name, "--", process.execPath, "-e", STUBBORN]);
  const pid = await started(call);
  await redlock.forceRelease(name);
  const { status, out, err } = await call.ended;
  expect(status).toBe(70);
  expect(err).toMatch(/ holds this lock no longer/);
  expect(out).not.toContain("term");
  expect(processHasEnded(pid)).toBe(true);
});

describe("after SIGKILL of redlock", () => {
  test("the next one starts when the ttl has ended, not before", async () => {
    const name = fresh();
    const holder = cli.start([
      "run",
      "--ttl",
      "2s",
      name,
      "--",
      "sh",
      "-c",
      "echo $$; exec sleep 60",
    ]);
    await started(holder);
    const next = cli.start(["run", "--ttl", "2s", name, "--", "date", "+%s%3N"]);
    await until(async () => (await redlock.holder(name))?.waiters === 1, START_MS, next.err);
    holder.child.kill("SIGKILL");
    await until(
      () => defined(holder.child.pid) > 0 && processHasEnded(defined(holder.child.pid)),
      5000,
      () => "alive",
    );
    const expiries = await expiriesOf(name);
    // The lock is free once fewer than three of the five nodes hold its key.
    const end = defined(expiries[2]);
    const { status, out } = await next.ended;
    expect(status).toBe(0);
    const startMs = Number(out) - end;
    expect(startMs).toBeGreaterThanOrEqual(-1);
    expect(startMs).toBeLessThan(100 + MARGIN_MS * slowness());
  });
});
