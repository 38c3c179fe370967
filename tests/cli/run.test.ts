import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { Redlock } from "../../src/index.js";
import { Cli, type CliCall } from "../support/cli.js";
import { defined, fresh, untilFree, valuesOn } from "../support/nodes.js";
import { ask, type RedisServer, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

let redlock: Redlock;
let directory = "";
const servers = useServers(3, { beforeStop: () => redlock.quit() });
const cli = new Cli(servers);

/** Nothing listens on these ports, which only root can open. */
const DEAD_NODES = "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
const BUSY_MS = 60_000;
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

beforeAll(async () => {
  redlock = new Redlock(
    servers.map(({ url }) => url),
    { nodeTimeout: 5000, owner: "api-7" },
  );
  directory = await mkdtemp(join(tmpdir(), "redlock-quorum-cli-"));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

function run(...args: string[]) {
  return cli.call(["run", ...args]);
}

/** How many PUBLISH a server has run. */
async function probesOn(server: RedisServer | undefined): Promise<number> {
  const stats = await ask(defined(server).port, ["INFO", "commandstats"]);
  return Number(/^cmdstat_publish:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
}

/** A program of Node for the command. */
function program(text: string): string[] {
  return [process.execPath, "-e", text];
}

describe("the exit status is", () => {
  test.each([
    ["0", "exit 0", 0],
    ["the command's own", "exit 7", 7],
    ["128 + n for a signal", "kill -USR2 $$", 140],
    ["128 + n for SIGKILL", "kill -KILL $$", 137],
  ])("%s", async (_, script, status) => {
    const name = fresh();
    expect(await run(name, "--", "sh", "-c", script)).toEqual({ status, out: "", err: "" });
    await untilFree(servers, name);
  });

  test("127 if there is no such command, and the lock is released", async () => {
    const name = fresh();
    const { status, err } = await run(name, "--", "/no/such/command");
    expect(status).toBe(127);
    expect(err).toBe(
      "redlock: There is no command /no/such/command. Give its path, or look at PATH.\n",
    );
    await untilFree(servers, name);
  });

  test("127 if a directory of its path is a file", async () => {
    const { status, err } = await run(fresh(), "--", "/etc/passwd/command");
    expect(status).toBe(127);
    expect(err).toMatch(/^redlock: There is no command \/etc\/passwd\/command\./);
  });

  test("the same if nobody reads the message", async () => {
    const call = cli.start(["run", fresh(), "--", "/no/such/command"]);
    call.child.stderr?.destroy();
    expect(await call.ended).toMatchObject({ status: 127, err: "" });
  });

  test("126 if the command may not be executed", async () => {
    const path = join(directory, "plain.txt");
    await writeFile(path, "");
    await chmod(path, 0o600);
    const { status, err } = await run(fresh(), "--", path);
    expect(status).toBe(126);
    expect(err).toMatch(/^redlock: .*plain\.txt may not be executed\. Make it executable.*\n$/);
  });

  test("75 if somebody else holds the lock, at once with --no-wait, and the message says who", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    const { status, out, err } = await run("--no-wait", name, "--", "echo", "ran");
    expect({ status, out }).toEqual({ status: 75, out: "" });
    expect(err).toMatch(
      new RegExp(
        `^redlock: ${name} is held by api-7 for another \\d+\\.\\d s\\. Try again later, .*\n$`,
      ),
    );
    await lock.release();
  });

  test("75 if the lock does not become free within --wait", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    // Long enough for a busy machine to reach the nodes.
    const { status, out, err } = await run("--wait", "3s", name, "--", "echo", "ran");
    expect({ status, out }).toEqual({ status: 75, out: "" });
    expect(err).toMatch(/ was not free within 3\.0 s\. Give a longer --wait\.\n$/);
    await lock.release();
  });

  test("that of --conflict-exit-code if somebody else holds the lock", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    const { status } = await run("--no-wait", "--conflict-exit-code", "0", name, "--", "false");
    expect(status).toBe(0);
    await lock.release();
  });

  test.each([[["--no-wait"]], [["--wait", "3s"]], [[]]])(
    "69 without a quorum of nodes, whatever --conflict-exit-code says: %j",
    async (options) => {
      const conflict = ["--conflict-exit-code", "3"];
      const { status, out, err } = await run(
        ...["--nodes", DEAD_NODES, ...conflict, ...options, fresh(), "--", "echo", "ran"],
      );
      expect({ status, out }).toEqual({ status: 69, out: "" });
      expect(err).toMatch(/^redlock: .*127\.0\.0\.1:2 ECONNREFUSED.* redlock doctor\.\n$/);
    },
  );

  // Nobody else does the work.
  const conflict = ["--conflict-exit-code", "0"];
  test.each([[["--no-wait"]], [["--wait", "3s"]], [["--no-wait", ...conflict]]])(
    "75 if most nodes hold other data under the name, which the message says: %j",
    async (options) => {
      const name = fresh();
      for (const { port } of servers.slice(0, 3)) await ask(port, ["HSET", name, "field", "1"]);
      const { status, out, err } = await run(...options, name, "--", "echo", "ran");
      expect({ status, out }).toEqual({ status: 75, out: "" });
      const end = ` holds other data under ${name}: a hash. Give the lock another name.\n`;
      expect(err.slice(-end.length)).toBe(end);
      for (const { port } of servers.slice(0, 3)) await ask(port, ["DEL", name]);
    },
  );

  test.each([1, 2])(
    "69 if most nodes hold other data under the last of %d names",
    async (count) => {
      const names = Array.from({ length: count }, () => fresh());
      const name = defined(names.at(-1));
      for (const { port } of servers.slice(0, 3)) await ask(port, ["HSET", name, "field", "1"]);
      const { status, out, err } = await run(...names, "--", "echo", "ran");
      expect({ status, out }).toEqual({ status: 69, out: "" });
      expect(err).toContain(`holds other data under ${name}: a hash`);
      for (const { port } of servers.slice(0, 3)) await ask(port, ["DEL", name]);
    },
  );

  test("69 if the nodes reply, but refuse to write", async () => {
    const setting = (value: string) =>
      servers.map(({ port }) => ask(port, ["CONFIG", "SET", "min-replicas-to-write", value]));
    await Promise.all(setting("1"));
    try {
      const { status, out, err } = await run(fresh(), "--", "echo", "ran");
      expect({ status, out }).toEqual({ status: 69, out: "" });
      expect(err).toMatch(/^redlock: No quorum of the nodes has granted .* NOREPLICAS .*\n$/);
    } finally {
      await Promise.all(setting("0"));
    }
  });

  test.each<[string, string[], RegExp]>([
    ["no command", ["a"], /There is no command\. Write it after --: /],
    ["nothing after --", ["a", "--"], /There is no command\./],
    ["no name", ["--", "true"], /Missing required argument 'name'\. /],
    ["a time without a unit", ["--ttl", "30", "a", "--", "true"], /such as 500ms, 30s, 5m or 1h\./],
    ["a ttl that is too short", ["--ttl", "10ms", "a", "--", "true"], /Give at least 1s\./],
    ["a long grace", ["--ttl", "3s", "--grace", "2s", "a", "--", "true"], /Give a longer --ttl/],
    ["an unknown option", ["--fence", "a", "--", "true"], /Did you mean --fencing\?/],
    ["a bad status", ["--conflict-exit-code", "256", "a", "--", "true"], /from 0 to 255/],
    ["no nodes", ["--nodes", ",", "a", "--", "true"], /There are no nodes\. Give them as --nodes /],
    [
      "a bad node",
      ["--nodes", "http://x:secret@y", "a", "--", "true"],
      /Node number 1 is not a URL/,
    ],
    ["the same node twice", ["--nodes", "h:1,h:1", "a", "--", "true"], /Node number 2 is the same/],
    ["an owner with a space", ["--owner", "a b", "a", "--", "true"], /without spaces/],
    ["no config file", ["--config", "/no/file", "a", "--", "true"], /cannot be read: ENOENT/],
    [
      "a name of the library's own",
      ["{a}:redlock:line", "--", "true"],
      /Redlock uses the name .* itself\./,
    ],
  ])("64 for %s, with one line that says what to do", async (_, args, what) => {
    const { status, out, err } = await run(...args);
    expect({ status, out }).toEqual({ status: 64, out: "" });
    expect(err).toMatch(what);
    expect(err).toMatch(/^redlock: .*[.)]\n$/);
    expect(err.trimEnd()).not.toContain("\n");
    expect(err).not.toContain("secret");
  });
});

describe("the command", () => {
  test("has the names, the lock's value and the fencing token in its environment", async () => {
    const names = [fresh(), fresh()];
    const print =
      "const { REDLOCK_RESOURCE: resource, REDLOCK_VALUE: value, REDLOCK_FENCE: fence } = process.env;" +
      "console.log(JSON.stringify({ resource, value, fence }))";
    const script = [...names, "--", "sh", "-c", '"$0" -e "$1"; sleep 60', process.execPath, print];
    const call = cli.start(["run", "--fencing", "--owner", "cron", ...script]);
    await until(() => call.out().endsWith("\n"), BUSY_MS, call.err);
    const first = JSON.parse(call.out()) as Record<string, string>;
    expect(first["resource"]).toBe(names.join("\n"));
    expect(first["value"]).toMatch(/^[0-9a-f]{32} cron$/);
    expect(await redlock.holder(names[1] ?? "")).toMatchObject({
      value: first["value"],
      owner: "cron",
    });
    call.child.kill("SIGTERM");
    expect((await call.ended).status).toBe(143);
    const { out } = await run("--fencing", ...names, "--", ...program(print));
    const second = JSON.parse(out) as Record<string, string>;
    expect(Number(second["fence"])).toBeGreaterThan(Number(first["fence"]));
  });

  test("does not have the fencing token or the permit of a redlock around it", async () => {
    const env = { REDLOCK_FENCE: "7", REDLOCK_PERMIT: "1" };
    const script = program(
      'console.log("REDLOCK_FENCE" in process.env || "REDLOCK_PERMIT" in process.env)',
    );
    expect(await cli.call(["run", fresh(), "--", ...script], { env })).toMatchObject({
      out: "false\n",
    });
  });

  test("gets its arguments as they are, without a shell", async () => {
    const args = ["$HOME; echo x", "--help", "--", "a  b", ""];
    const print = "console.log(JSON.stringify(process.argv.slice(1)))";
    const { out } = await run(fresh(), "--", ...program(print), "--", ...args);
    expect(JSON.parse(out)).toEqual(args);
  });

  test("has redlock's stdin, stdout and stderr", async () => {
    const script = ["run", fresh(), "--", "sh", "-c", "cat; echo bad >&2"];
    expect(await cli.call(script, { input: "hello" })).toEqual({
      status: 0,
      out: "hello",
      err: "bad\n",
    });
  });

  test.each(SIGNALS)("gets %s that redlock gets, and decides what it means", async (signal) => {
    const wait = `process.on("${signal}", () => process.exit(11)); console.log("up"); setInterval(() => {}, 1000)`;
    const name = fresh();
    const call = cli.start(["run", name, "--", ...program(wait)]);
    await until(() => call.out() === "up\n", BUSY_MS, call.err);
    call.child.kill(signal);
    expect(await call.ended).toEqual({ status: 11, out: "up\n", err: "" });
    await untilFree(servers, name);
  });

  test("keeps the lock beyond its ttl, until it ends", async () => {
    const name = fresh();
    const call = cli.start(["run", "--ttl", "3s", name, "--", "sleep", "5"]);
    await until(async () => (await redlock.holder(name)) !== null, BUSY_MS, call.err);
    const { value } = (await redlock.holder(name)) ?? {};
    for (;;) {
      const values = await valuesOn(servers, name);
      // The command may have ended, and the lock with it, before they were read.
      if (call.child.exitCode !== null || (await redlock.holder(name)) === null) break;
      expect(values).toContain(value);
      await sleep(20);
    }
    expect(await call.ended).toEqual({ status: 0, out: "", err: "" });
  });
});

describe("with --keep, the lock", () => {
  test("stays for its whole ttl after status 0", async () => {
    const name = fresh();
    const keep = ["--keep", "--ttl", "40s", "--owner", "cron", name];
    expect(await run(...keep, "--", "true")).toEqual({ status: 0, out: "", err: "" });
    const { owner, remainingMs } = (await redlock.holder(name)) ?? {};
    expect(owner).toBe("cron");
    expect(remainingMs).toBeLessThanOrEqual(40_000);
    expect((await run("--no-wait", ...keep, "--", "true")).status).toBe(75);
    await redlock.forceRelease(name);
  });

  test("is released after another status, so that another machine can try", async () => {
    const name = fresh();
    expect(await run("--keep", name, "--", "false")).toEqual({ status: 1, out: "", err: "" });
    await untilFree(servers, name);
  });
});

describe("SIGTSTP, as by Ctrl-Z,", () => {
  // Not a shell that starts others: stopped while it waits for a new one (vfork), it has the state D.
  const TICKS = "console.log(process.pid); setInterval(() => console.log('tick'), 50)";
  const hasStopped = async (pid: number | undefined): Promise<boolean> =>
    /^\S+ \(.*\) T /.test(await readFile(`/proc/${pid}/stat`, "utf8"));

  async function stopped(ttl: string): Promise<{ call: CliCall; name: string; pid: number }> {
    const name = fresh();
    const call = cli.start(["run", "--ttl", ttl, name, "--", "node", "-e", TICKS]);
    await until(() => call.out().includes("tick"), BUSY_MS, call.err);
    const pid = parseInt(call.out());
    call.child.kill("SIGTSTP");
    for (const each of [call.child.pid, pid]) {
      await until(
        () => hasStopped(each),
        BUSY_MS,
        () => `${each} has not stopped`,
      );
    }
    return { call, name, pid };
  }

  test("stops the command together with redlock, and SIGCONT lets both go on", async () => {
    const { call, pid } = await stopped("60s");
    call.child.kill("SIGCONT");
    await until(async () => !(await hasStopped(pid)), BUSY_MS, call.err);
    const { length } = call.out();
    await until(() => call.out().length > length, BUSY_MS, call.err);
    call.child.kill("SIGTERM");
    expect(await call.ended).toMatchObject({ status: 143, err: "" });
  });

  test("ends the command if the lock has ended meanwhile: it runs no more beside the next one", async () => {
    const { call, name } = await stopped("1s");
    await until(
      async () => (await redlock.holder(name)) === null,
      BUSY_MS,
      () => "the lock does not end",
    );
    const before = call.out();
    call.child.kill("SIGCONT");
    const { status, out, err } = await call.ended;
    expect(status).toBe(70);
    expect(err).toMatch(/^redlock: The lock was lost before node had ended/m);
    expect(out).toBe(before);
  });
});

describe("while redlock waits for the lock", () => {
  test.each(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const)(
    "%s ends the waiting: it leaves the queue, and the holder keeps the lock",
    async (signal) => {
      const name = fresh();
      const lock = await redlock.acquire(name, BUSY_MS);
      const call = cli.start(["run", name, "--", "echo", "ran"]);
      await until(async () => (await redlock.holder(name))?.waiters === 1, BUSY_MS, call.err);
      call.child.kill(signal);
      const status = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129, SIGQUIT: 131 }[signal];
      expect(await call.ended).toEqual({ status, out: "", err: "" });
      await until(
        async () => (await redlock.holder(name))?.waiters === 0,
        5000,
        () => "still queued",
      );
      expect((await redlock.holder(name))?.value).toBe(lock.value);
      await lock.release();
    },
  );

  test("SIGUSR1 and SIGUSR2 do nothing, and the command starts when the lock is free", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    const call = cli.start(["run", name, "--", "echo", "ran"]);
    await until(async () => (await redlock.holder(name))?.waiters === 1, BUSY_MS, call.err);
    call.child.kill("SIGUSR1");
    call.child.kill("SIGUSR2");
    // Redlock publishes a probe each second while it waits. Between two of them it has read its signals.
    const probes = await probesOn(servers[0]);
    const read = async (): Promise<boolean> => (await probesOn(servers[0])) >= probes + 2;
    await until(read, BUSY_MS, call.err);
    expect(call.out()).toBe("");
    await lock.release();
    expect(await call.ended).toEqual({ status: 0, out: "ran\n", err: "" });
  });
});

describe("the nodes", () => {
  const config = async (content: unknown): Promise<string> => {
    const path = join(directory, `${fresh().replaceAll(/\W/g, "-")}.json`);
    await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };

  test("are read also from a file that begins with the mark of Windows’ editors", async () => {
    const file = await config(`\ufeff${JSON.stringify({ nodes: servers.map(({ url }) => url) })}`);
    const env = { REDLOCK_NODES: DEAD_NODES };
    const { status } = await cli.call(["status", "--config", file, fresh()], { env });
    expect(status).toBe(0);
  });

  test("are those of --nodes, else of the config file, else of REDLOCK_NODES", async () => {
    const env = { REDLOCK_NODES: DEAD_NODES };
    const nodes = servers.map(({ url }) => url);
    const file = await config({
      nodes,
      keyPrefix: "p:",
      ttl: "5s",
      nodeTimeout: "5s",
      owner: "cron",
    });
    const dead = await config({ nodes: DEAD_NODES.split(",") });
    const [name, command] = [fresh(), ["--", "sh", "-c", "echo $REDLOCK_VALUE"]];
    const byFile = await cli.call(["run", "--config", file, name, ...command], { env });
    expect(byFile.out).toMatch(/^[0-9a-f]{32} cron\n$/);
    const given = nodes.join(",").replaceAll("redis://", "");
    const byOption = await cli.call(["run", "--config", dead, "--nodes", given, name, ...command], {
      env,
    });
    expect(byOption).toMatchObject({ status: 0, err: "" });
    const byVariable = await cli.call(["run", "--no-wait", name, ...command], { env });
    expect(byVariable).toMatchObject({ status: 69 });
  });

  test("have keys with the prefix", async () => {
    const name = fresh();
    const call = cli.start(["run", "--key-prefix", "p:", name, "--", "sleep", "60"]);
    const isHeld = async () =>
      (await valuesOn(servers, `p:${name}`)).every((value) => value !== null);
    await until(isHeld, BUSY_MS, call.err);
    call.child.kill("SIGTERM");
    expect((await call.ended).status).toBe(143);
  });

  test("that have started within the restartGuard of the config file give no votes, and doctor says so", async () => {
    const nodes = servers.map(({ url }) => url);
    const guarded = ["--config", await config({ nodes, restartGuard: "400h" })];
    const { status, err } = await run("--no-wait", ...guarded, fresh(), "--", "true");
    expect(status).toBe(69);
    expect(err).toMatch(/its votes count again in/);
    expect((await cli.call(["doctor", ...guarded])).out).toMatch(/is held back/);
  });

  test.each<[string, unknown, RegExp]>([
    ["is no JSON", '{"nodes": ["redis://:secret@h"', /is not JSON\. Look for /],
    ["is a list", ["redis://:secret@h"], /must be an object, such as/],
    [
      "has an unknown setting",
      { node: ["redis://:secret@h"] },
      /knows no setting node\. The settings are/,
    ],
    ["has one text as nodes", { nodes: "redis://:secret@h" }, /must have a list of URLs as nodes/],
    ["has a time without a unit", { ttl: 30 }, /must have a time with a unit as ttl/],
    ["has a number as prefix", { keyPrefix: 3 }, /must have a text as keyPrefix/],
  ])("are not taken from a file that %s, and no password is shown", async (_, content, what) => {
    const { status, err } = await run("--config", await config(content), "a", "--", "true");
    expect(status).toBe(64);
    expect(err).toMatch(what);
    expect(err).not.toContain("secret");
  });
});

test("redlock run --help has the parts of a manual", async () => {
  const { out } = await run("--help");
  for (const part of ["Examples:", "Exit status:", "Environment of COMMAND:", "Config file"]) {
    expect(out).toContain(part);
  }
});
