import { tmpdir } from "node:os";
import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import { type Lock, Redlock } from "../../src/index.js";
import { Cli } from "../support/cli.js";
import { defined, fresh, occupy, untilFree, untilHeld } from "../support/nodes.js";
import { run as runProgram } from "../support/packed-package.js";
import { ask, until } from "../support/servers.js";
import { useServers } from "../support/use-servers.js";

let redlock: Redlock;
const servers = useServers(5, { beforeStop: () => redlock.quit() });
const cli = new Cli(servers);

const BUSY_MS = 60_000;
const PATIENT = ["--node-timeout", "5s"];
const DEAD_NODES = "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
const address = (index: number) => `127.0.0.1:${defined(servers[index]).port}`;

beforeAll(() => {
  redlock = new Redlock(
    servers.map(({ url }) => url),
    { nodeTimeout: 5000, owner: "api-7" },
  );
});

afterEach(() => {
  for (const server of servers) server.thaw();
});

async function json(command: string, ...args: string[]): Promise<unknown> {
  const { status, out, err } = await cli.call([command, ...PATIENT, "--json", ...args]);
  expect(err).toBe("");
  expect([0, 1, 69]).toContain(status);
  return JSON.parse(out);
}

describe("redlock status", () => {
  test("names the readers, which redlock run --shared takes together, and keeps others out", async () => {
    const name = fresh();
    const one = await redlock.acquire(name, BUSY_MS, { shared: true });
    const run = ["run", "--no-wait", "--shared", "--owner", "cron", ...PATIENT, name, "--"];
    const print = await cli.call([...run, process.execPath, "-e", "console.log('reads')"]);
    expect(print).toMatchObject({ status: 0, out: "reads\n" });
    const two = await redlock.acquire(name, 30_000, { shared: true });
    await until(
      async () => (await redlock.holder(name))?.readers?.length === 2,
      5000,
      () => "they do not read",
    );
    const reader = (value: string) => ({ owner: "api-7", value, remainingMs: expect.any(Number) });
    expect(await json("status", name)).toMatchObject([
      { state: "held", value: one.value, readers: [reader(one.value), reader(two.value)] },
    ]);
    const { out } = await cli.call(["status", name, ...PATIENT]);
    expect(out).toMatch(new RegExp(`^${name}: held by 2 readers \\(api-7, api-7\\) for another`));
    const writer = await cli.call(["run", "--no-wait", ...PATIENT, name, "--", "true"]);
    expect(writer.status).toBe(75);
    expect(writer.err).toContain("is held by readers");
    const both = await cli.call(["run", "--shared", "--fencing", name, "--", "true"]);
    expect(both.status).toBe(64);
    await Promise.all([one.release(), two.release()]);
  });

  test("shows who has which permit, which redlock run --permits takes, and ends them by force", async () => {
    const name = fresh();
    const untilSlotHeld = ({ permit, value }: Lock): Promise<void> =>
      untilHeld(servers, { resources: [`{${name}}:redlock:permit:${permit}`], value });
    const one = await redlock.acquire(name, BUSY_MS, { permits: 2 });
    await untilSlotHeld(one);
    const run = ["run", "--no-wait", "--permits", "2", "--owner", "cron", ...PATIENT, name, "--"];
    const command = [process.execPath, "-e", "console.log(process.env.REDLOCK_PERMIT)"];
    const print = await cli.call([...run, ...command]);
    expect(print).toMatchObject({ status: 0, out: `${1 - defined(one.permit)}\n` });
    const two = await redlock.acquire(name, BUSY_MS, { permits: 2 });
    await untilSlotHeld(two);
    const row = ({ permit, value }: Lock) => ({
      permit,
      owner: "api-7",
      value,
      remainingMs: expect.any(Number),
      nodes: 5,
    });
    const rows = [row(one), row(two)].sort((a, b) => defined(a.permit) - defined(b.permit));
    expect(await json("status", "--permits", "2", name)).toMatchObject([
      { state: "held", permitCount: 2, permits: rows, owner: null, waiters: 0 },
    ]);
    const { out } = await cli.call(["status", "--permits", "2", name, ...PATIENT]);
    expect(out).toMatch(
      new RegExp(
        `^${name}: 2 of 2 permits are taken\n` +
          " {2}permit +remaining +nodes +holder\n" +
          " {2}0 +\\d+\\.\\d s +5 of 5 +api-7\n {2}1 +\\d+\\.\\d s +5 of 5 +api-7\n$",
      ),
    );
    const third = await cli.call([...run, "true"]);
    expect(third.status).toBe(75);
    expect(third.err).toContain(
      `All 2 permits of ${name} are taken by api-7, api-7, the first for`,
    );
    for (const other of ["--shared", "--fencing"]) {
      const both = await cli.call(["run", "--permits", "2", other, name, "--", "true"]);
      expect(both.status).toBe(64);
      expect(both.err).toContain(other);
    }
    const several = await cli.call(["run", "--permits", "2", name, fresh(), "--", "true"]);
    expect(several).toMatchObject({ status: 64 });
    const unlock = ["unlock", "--force", "--permits", "2", name, ...PATIENT];
    const ended = await cli.call(unlock);
    expect(ended.out).toContain(`${name}: ended permit 0 of api-7 on 5 nodes`);
    expect(ended.out).toContain(`${name}: ended permit 1 of api-7 on 5 nodes`);
    expect(await json("status", "--permits", "2", name)).toMatchObject([
      { state: "free", permitCount: 2, permits: [] },
    ]);
  });

  test("shows the holder, its time, its fencing token, the queue, and each node", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS, { fencing: true });
    await untilHeld(servers, lock);
    const waiting = redlock.acquire(name, BUSY_MS, { acquireTimeout: 500_000 });
    const row = {
      error: null,
      value: lock.value,
      owner: "api-7",
      remainingMs: expect.any(Number),
      readers: null,
      reservedFor: null,
      type: "string",
      waiters: 1,
    };
    await until(
      async () => (await redlock.holder(name))?.waiters === 1,
      5000,
      () => "no queue",
    );
    await until(
      async () =>
        (await redlock.inspect(name)).every(
          ({ resources: [found] }) => found?.waiters.length === 1,
        ),
      5000,
      () => "no queue on some node",
    );
    expect(await json("status", name)).toEqual([
      {
        resource: name,
        state: "held",
        readers: null,
        permitCount: null,
        permits: null,
        owner: "api-7",
        value: lock.value,
        remainingMs: expect.any(Number),
        fence: lock.fence,
        waiters: 1,
        nodes: servers.map((_, index) => ({ node: address(index), ...row })),
      },
    ]);
    const { out } = await cli.call(["status", name, ...PATIENT]);
    const [first, head, ...rows] = out.trimEnd().split("\n");
    expect(first).toMatch(
      new RegExp(
        `^${name}: held by api-7 for another \\d+\\.\\d s, fence ${lock.fence}, 1 in the queue$`,
      ),
    );
    expect(head).toMatch(/^ {2}node +remaining +queue +holds$/);
    expect(rows).toHaveLength(5);
    expect(rows[0]).toMatch(new RegExp(`^  ${address(0)} +\\d+\\.\\d s +1 +api-7$`));
    await lock.release();
    await (await waiting).release();
  });

  test("says that a lock is free, also if a minority of the nodes hold one, or another type of key", async () => {
    const [free, minority, mixed] = [fresh(), fresh(), fresh()];
    await occupy(servers.slice(0, 2), minority);
    await occupy(servers.slice(0, 2), mixed);
    await ask(defined(servers[4]).port, ["SADD", mixed, "x"]);
    const { status, out } = await cli.call(["status", free, minority, mixed, ...PATIENT]);
    expect(status).toBe(0);
    expect(out).toContain(`${free}: free\n`);
    const facts = "2 of 5 nodes hold a lock, no quorum; 1 of 5 nodes hold other data";
    expect(out).toContain(`${minority}: free: 2 of 5 nodes hold a lock, no quorum\n`);
    expect(out).toContain(`${mixed}: free: ${facts}\n`);
    expect(out).toMatch(new RegExp(`^  ${address(0)} +no expiry +a lock without an owner$`, "m"));
    expect(out).toMatch(new RegExp(`^  ${address(4)} +other data: a set$`, "m"));
  });

  test("names a node that does not reply, and shows the others", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    await untilHeld(servers, lock);
    await defined(servers[4]).freeze();
    const { status, out } = await cli.call(["status", name, "--node-timeout", "2s"]);
    expect(status).toBe(0);
    expect(out).toContain(`${name}: held by api-7 `);
    expect(out).toMatch(new RegExp(`^  ${address(4)} +no answer in 2\\.0 s$`, "m"));
    await lock.release();
  });

  test("has status 69 without a quorum", async () => {
    const { status, out, err } = await cli.call(["status", "a", "--nodes", DEAD_NODES]);
    expect({ status, err }).toEqual({ status: 69, err: "" });
    expect(out).toMatch(/^a: unknown, 0 of 3 nodes could be read, 2 needed\n/);
    expect(out).toMatch(/ECONNREFUSED$/m);
  });

  test("--watch shows each change, and --json prints one line each time", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    const call = cli.start(["status", "--watch", "--interval", "20ms", "--json", ...PATIENT, name]);
    const states = () =>
      call
        .out()
        .split("\n")
        .slice(0, -1)
        .map((line) => (JSON.parse(line) as { state: string }[])[0]?.state);
    await until(() => states().includes("held"), BUSY_MS, call.err);
    await lock.release();
    await until(() => states().includes("free"), BUSY_MS, call.err);
    call.child.kill("SIGTERM");
    expect((await call.ended).err).toBe("");
  });

  test("--watch ends without a word when nobody reads on, as after head", async () => {
    const call = cli.start(["status", fresh(), "--watch", "--interval", "20ms"]);
    await until(() => call.out() !== "", BUSY_MS, call.err);
    call.child.stdout?.destroy();
    expect(await call.ended).toMatchObject({ status: 141, err: "" });
  });

  test("--help ends without a word when nobody reads it", async () => {
    const call = cli.start(["status", "--help"]);
    call.child.stdout?.destroy();
    expect(await call.ended).toEqual({ status: 141, out: "", err: "" });
  });

  test("has status 74 if its output cannot be written, and says why", async () => {
    const name = fresh();
    const script = '"$0" "$@" >/dev/full';
    const args = ["-c", script, process.execPath, cli.path, "status", name, ...PATIENT];
    const nodes = servers.map(({ url }) => url).join(",");
    const env = { NODE_OPTIONS: "", REDLOCK_NODES: nodes };
    expect(await runProgram("sh", args, tmpdir(), env)).toEqual({
      code: 74,
      out: "",
      err: "redlock: The output cannot be written: ENOSPC. Look at what it is redirected to.\n",
    });
  });

  test("takes what follows -- as names", async () => {
    const { status, out } = await cli.call(["status", ...PATIENT, "a", "--", "-x", "--json"]);
    expect(status).toBe(0);
    expect(out.match(/^\S+: free$/gm)).toEqual(["a: free", "-x: free", "--json: free"]);
  });

  test("shows no control characters of a name on the terminal", async () => {
    const { out } = await cli.call(["status", "a\u001b[31mb", ...PATIENT]);
    expect(out).toMatch(/^a\?\[31mb: free\n/);
  });
});

describe("redlock unlock", () => {
  test("without --force ends nothing, and says so", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    const { status, out, err } = await cli.call(["unlock", name]);
    expect({ status, out }).toEqual({ status: 64, out: "" });
    expect(err).toBe(
      "redlock: This ends a lock whose holder may be working. Look with redlock status, then add --force.\n",
    );
    expect((await redlock.holder(name))?.value).toBe(lock.value);
    await lock.release();
  });

  test("--force ends the lock on every node, and says whose it was", async () => {
    const [name, other] = [fresh(), fresh()];
    await untilHeld(servers, await redlock.acquire(name, BUSY_MS));
    const { status, out } = await cli.call(["unlock", name, other, "--force", ...PATIENT]);
    expect(status).toBe(0);
    expect(out).toBe(
      `${name}: ended the lock of api-7 on 5 nodes\n` +
        `${other}: nobody held it (if it has permits, add --permits)\n`,
    );
    await untilFree(servers, name);
  });

  test("--json lists the locks that it ended", async () => {
    const name = fresh();
    const lock = await redlock.acquire(name, BUSY_MS);
    await untilHeld(servers, lock);
    const nodes = servers.map((_, index) => address(index));
    const ended = { resource: name, owner: "api-7", value: lock.value, nodes };
    expect(await json("unlock", "--force", name)).toEqual([ended]);
    expect(await json("unlock", "--force", name)).toEqual([]);
  });

  test("has status 69 without a quorum, and names the nodes", async () => {
    const { status, err } = await cli.call(["unlock", "a", "--force", "--nodes", DEAD_NODES]);
    expect(status).toBe(69);
    expect(err).toMatch(/^redlock: .*127\.0\.0\.1:3 ECONNREFUSED.*\n$/);
  });
});

describe("redlock doctor", () => {
  test("finds nothing wrong with healthy nodes", async () => {
    const { status, out, err } = await cli.call(["doctor", "--node-timeout", "60s"]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toMatch(
      /\n\n5 of 5 nodes replied\. Nothing was found that endangers the exclusion\.\n$/,
    );
    expect(
      out.split("\n").filter((line) => line.includes(" ms ") || line.includes(" s ")),
    ).toHaveLength(5);
  });

  test("has status 1 for a danger, and says what to do", async () => {
    const { port } = defined(servers[1]);
    await ask(port, ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    const { status, out } = await cli.call(["doctor", ...PATIENT]);
    // On a busy machine, a round trip may take more than a tenth of it, which is a finding, too.
    const report = await json("doctor", "--node-timeout", "60s");
    await ask(port, ["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    expect(status).toBe(1);
    expect(out).toMatch(/^DANGER: 127\.0\.0\.1:\d+ may evict locks that are held/m);
    expect(out.replace(/\s+/g, " ")).toContain("Run CONFIG SET maxmemory-policy noeviction on it");
    expect(out).toMatch(/1 finding endangers the\s+exclusion\.\n$/);
    expect(out.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect(report).toMatchObject([
      { reachable: true, error: null },
      { evictionPolicy: "allkeys-lru", problems: [{ endangersExclusion: true }] },
      {},
      {},
      {},
    ]);
  });

  test("has status 0 for a node that is down, and 69 without a quorum", async () => {
    const three = [address(0), address(1), "127.0.0.1:1"].join(",");
    const one = await cli.call(["doctor", "--nodes", three, ...PATIENT]);
    expect(one.status).toBe(0);
    expect(one.out).toMatch(
      /^127\.0\.0\.1:1 cannot be reached: ECONNREFUSED\.\n {2}Start the server/m,
    );
    const none = await cli.call(["doctor", "--nodes", DEAD_NODES]);
    expect(none.status).toBe(69);
    expect(none.out.replace(/\s+/g, " ")).toContain(
      "0 of 3 nodes replied, 2 needed: no lock can be acquired.",
    );
  });

  test("does not show a password, even a wrong one", async () => {
    const nodes = `redis://:secret@${address(0)},redis://me:secret@127.0.0.1:1`;
    for (const args of [["doctor"], ["status", "a"], ["run", "--no-wait", "a", "--", "true"]]) {
      const { out, err } = await cli.call([
        ...args.slice(0, 1),
        "--nodes",
        nodes,
        ...args.slice(1),
      ]);
      expect(out + err).not.toContain("secret");
      expect(out + err).not.toBe("");
    }
  });
});
