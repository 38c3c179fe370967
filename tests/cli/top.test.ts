// redlock top: on a real terminal, whose screen is read, and without one.

import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterEach, beforeAll, describe, expect, test } from "@jest/globals";
import type { Status } from "../../src/cli/status.js";
import { Redlock } from "../../src/index.js";
import { Cli } from "../support/cli.js";
import { defined, fresh, untilHeld } from "../support/nodes.js";
import { ask, until } from "../support/servers.js";
import { TerminalScreen } from "../support/terminal-screen.js";
import { useServers } from "../support/use-servers.js";

let redlock: Redlock;
const servers = useServers(5, { beforeStop: () => redlock.quit() });
const cli = new Cli(servers);

const BUSY_MS = 60_000;
const PATIENT = ["--node-timeout", "5s"];
const HINT = "No locks: give their names, or --prefix.";
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

function terminal(
  args: readonly string[],
  size: readonly [number, number] = [80, 24],
): Promise<TerminalScreen> {
  const nodes = servers.map(({ url }) => url).join(",");
  const command = [process.execPath, cli.path, "top", ...PATIENT, ...args];
  return TerminalScreen.start(command, { REDLOCK_NODES: nodes }, size);
}

interface Snapshot {
  readonly nodes: { node: string; state: string; error: string | null; latencyMs: number }[];
  readonly locks: Status[];
  readonly more: number;
  readonly scan: { prefix: string; complete: boolean; error: string | null } | null;
}

test("--prefix sends a password over TLS only, however its URL is written", async () => {
  const firstBytes: (number | undefined)[] = [];
  const listener = createServer((socket) => {
    socket.on("error", () => undefined).once("data", ([first]: Buffer) => firstBytes.push(first));
    setTimeout(() => socket.destroy(), 500);
  });
  await once(listener.listen(0, "127.0.0.1"), "listening");
  const { port } = listener.address() as AddressInfo;
  const nodes = `REDISS://:secret@127.0.0.1:${port}`;
  await cli.call(["top", "--once", "--prefix", "x", "--nodes", nodes]);
  listener.close();
  // Of the library, and of the scan. A handshake of TLS begins with this byte.
  expect(firstBytes.length).toBeGreaterThan(1);
  expect(new Set(firstBytes)).toEqual(new Set([0x16]));
});

async function snapshot(...args: string[]): Promise<Snapshot> {
  const { status, out, err } = await cli.call(["top", "--json", ...PATIENT, ...args]);
  expect({ status, err }).toEqual({ status: 0, err: "" });
  return JSON.parse(out) as Snapshot;
}

/** Waits until a file's lock is in the queue of every node. */
async function untilQueued(name: string): Promise<void> {
  const isQueued = async (): Promise<boolean> =>
    (await redlock.inspect(name)).every(({ resources: [found] }) => found?.waiters.length === 1);
  await until(isQueued, BUSY_MS, () => "no queue on some node");
}

describe("on a terminal of 80 x 24, redlock top", () => {
  test("shows the nodes, one of them frozen, the locks and the queues, and gives the terminal back", async () => {
    const [prefix, given] = [`${fresh()}:`, fresh("given")];
    const [held, other] = [`${prefix}held`, `${prefix}other`];
    const locks = await Promise.all([held, other].map((name) => redlock.acquire(name, BUSY_MS)));
    const waiting = redlock.acquire(held, BUSY_MS, { acquireTimeout: 500_000 });
    await untilQueued(held);
    await defined(servers[4]).freeze();
    const options = ["--node-timeout", "2s", "--interval", "100ms", "--prefix", prefix, given];
    const screen = await terminal(options);
    await screen.until(/other/);
    expect(screen.isFull).toBe(true);
    const { lines, text } = screen;
    expect(lines[0]).toMatch(
      /^redlock top {2}\d\d:\d\d:\d\d {2}4 of 5 nodes reply, quorum 3 {2}q quits$/,
    );
    expect(text).toMatch(new RegExp(`^  ${address(0)} .* ms .* ok$`, "m"));
    expect(text).toMatch(new RegExp(`^  ${address(4)} .* no answer (in|for) `, "m"));
    expect(text).toMatch(/^ {2}lock +holder +remaining +queue +fence +nodes$/m);
    expect(text).toMatch(new RegExp(`^  ${given} +free `, "m"));
    expect(text).toMatch(new RegExp(`^  ${held} +api-7 +\\d+\\.\\d s +1 `, "m"));
    expect(text).toMatch(new RegExp(`^  ${other} +api-7 +\\d+\\.\\d s +– `, "m"));
    expect(text.indexOf(held)).toBeLessThan(text.indexOf(other));
    await redlock.release(defined(locks[1]));
    await until(
      () => !screen.text.includes(other),
      BUSY_MS,
      () => "a lock that ended is shown",
    );
    screen.type("q");
    await screen.until(/^status 0$/m);
    await screen.ended;
    expect(screen.isFull).toBe(false);
    expect(screen.lines).toEqual(["before", "status 0"]);
    expect(await screen.modes()).toMatch(/ icanon .* echo /s);
    await redlock.release(defined(locks[0]));
    await (await waiting).release();
  });

  test.each([
    [
      "Ctrl-C",
      130,
      (screen: TerminalScreen) => {
        screen.type("\u0003");
      },
    ],
    [
      "SIGTERM",
      143,
      (screen: TerminalScreen) => {
        screen.signal("SIGTERM");
      },
    ],
    [
      "SIGHUP",
      129,
      (screen: TerminalScreen) => {
        screen.signal("SIGHUP");
      },
    ],
  ])("ends on %s with status %i, and gives the terminal back", async (_, status, end) => {
    const screen = await terminal([]);
    await screen.until(/No locks/);
    end(screen);
    await screen.until(/status/);
    await screen.ended;
    expect(screen.lines).toEqual(["before", `status ${status}`]);
    expect(screen.written).toMatch(/\[\?25h/);
    expect(await screen.modes()).toMatch(/ icanon .* echo /s);
  });

  test("gives the terminal back on an error, which is then to be read", async () => {
    const screen = await terminal(["{a}:redlock:line"]);
    await screen.until(/status/);
    expect(screen.text).toMatch(/^before\nredlock: Redlock uses the name [^]*\nstatus 64$/);
  });

  test("draws what it knows again when the terminal changes its size", async () => {
    const prefix = `${fresh()}:`;
    const names = Array.from({ length: 30 }, (_, index) => `${prefix}${"x".repeat(50)}${index}`);
    for (const name of names) await redlock.acquire(name, BUSY_MS);
    const nodes = [...servers.slice(0, 4).map(({ url }) => url), "127.0.0.1:1"].join(",");
    // So long that only the change of the size can be why it draws.
    const options = ["--node-timeout", "1m", "--interval", "1h", "--prefix", prefix];
    const screen = await terminal(["--nodes", nodes, ...options]);
    await screen.until(/… \d+ more$/m);
    expect(screen.lines).toHaveLength(24);
    await screen.resize(40, 12);
    await screen.until(/^ {2}node +latency +state$/m);
    expect(screen.lines.length).toBeLessThanOrEqual(12);
    expect(screen.lines[0]).toMatch(/^redlock top .{28}$/);
    // The node that is in need comes first.
    expect(screen.lines[3]).toMatch(/ – +ECONNREFUSED$/);
    expect(screen.text).toMatch(/^ {2}\S+… +\d+\.\d s +–$/m);
    await screen.resize(100, 50);
    // The title, five nodes and thirty locks, and what is above each table.
    const isAll = (): boolean => screen.lines.length === 1 + 7 + 32;
    await until(isAll, BUSY_MS, () => screen.text);
    expect(screen.text).toMatch(/api-7 +\d+\.\d s +– +– +4 of 5$/m);
    screen.type("q");
    await screen.until(/status 0/);
    await redlock.forceRelease(names);
  });

  test("looks again at once when the space bar is pressed", async () => {
    const name = fresh();
    const screen = await terminal(["--interval", "1h", name]);
    await screen.until(/ free /);
    const lock = await redlock.acquire(name, BUSY_MS);
    screen.type(" ");
    await screen.until(/ api-7 /);
    await lock.release();
    screen.type("q");
    await screen.until(/status 0/);
  });
});

describe("without a terminal, redlock top", () => {
  test("prints one look and ends", async () => {
    const { status, out, err } = await cli.call(["top", ...PATIENT]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    // eslint-disable-next-line no-control-regex
    expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
    const [title, , head, ...rows] = out.trimEnd().split("\n");
    expect(title).toBe("redlock top  5 of 5 nodes reply, quorum 3");
    expect(head).toMatch(/^ {2}node +latency +version +persistence +findings +state$/);
    expect(rows.slice(0, 5).every((row) => / ms .* ok$/.test(row))).toBe(true);
    expect(rows.slice(5)).toEqual(["", HINT]);
  });

  test("has status 69 without a quorum, and names the nodes", async () => {
    const { status, out } = await cli.call(["top", "a", "--nodes", "127.0.0.1:1,127.0.0.1:2"]);
    expect(status).toBe(69);
    expect(out).toMatch(/^redlock top {2}0 of 2 nodes reply, NO QUORUM \(2\)\n/);
    expect(out).toMatch(/^ {2}127\.0\.0\.1:2 .* ECONNREFUSED$/m);
    expect(out).toMatch(/^ {2}a +unknown /m);
  });

  test("prints one object a line with --json and --interval", async () => {
    const call = cli.start(["top", "--json", "--interval", "20ms", ...PATIENT]);
    await until(() => call.out().split("\n").length > 3, BUSY_MS, call.err);
    call.child.kill("SIGTERM");
    const lines = (await call.ended).out.split("\n").slice(0, 3);
    expect(lines.map((line) => (JSON.parse(line) as Snapshot).nodes.length)).toEqual([5, 5, 5]);
  });
});

describe("redlock top --prefix", () => {
  test("finds the locks whose names begin so, literally, and nothing else", async () => {
    const prefix = `${fresh()}[a]*:`;
    const named = [`${prefix}1`, `${prefix}2`];
    await Promise.all(
      named.map((name) => redlock.acquire(name, BUSY_MS, { fencing: name.endsWith("1") })),
    );
    const other = await redlock.acquire(`${prefix.replace("[a]*", "a")}3`, BUSY_MS);
    for (const { port } of servers) {
      await ask(port, ["SET", `${prefix}cached`, "some page"]);
      await ask(port, ["SADD", `${prefix}set`, "member"]);
    }
    const { locks, more, scan } = await snapshot("--prefix", prefix);
    expect(locks.map(({ resource }) => resource)).toEqual(named);
    expect({ more, scan }).toEqual({ more: 0, scan: { prefix, complete: true, error: null } });
    await redlock.forceRelease(named);
    await other.release();
  });

  test("finds readers, and the permits that are taken, whatever their names look like", async () => {
    const prefix = `${fresh()}[a]*:`;
    const [read, untagged, tagged] = [`${prefix}read`, `${prefix}resize`, `${prefix}{7}:resize`];
    const elsewhere = `${prefix.replace("[a]*", "a")}resize`;
    const locks = [
      await redlock.acquire(read, BUSY_MS, { shared: true }),
      await redlock.acquire(untagged, BUSY_MS, { permits: 3 }),
      await redlock.acquire(untagged, BUSY_MS, { permits: 3 }),
      await redlock.acquire(tagged, BUSY_MS, { permits: 20 }),
      await redlock.acquire(elsewhere, BUSY_MS, { permits: 3 }),
    ];
    for (const { resources, value, permit } of locks) {
      const [name = ""] = resources;
      if (permit === undefined) continue;
      const stem = name === tagged ? `${name}::redlock` : `{${name}}:redlock`;
      await untilHeld(servers, { resources: [`${stem}:permit:${permit}`], value });
    }
    // What only looks like a permit: nobody could ask about it.
    const strange = [
      `{${prefix}x}:redlock:permit:1000`,
      `{${prefix}y}:redlock:line::redlock:permit:0`,
    ];
    for (const key of strange) await ask(defined(servers[0]).port, ["SET", key, "0".repeat(32)]);
    const { locks: found } = await snapshot("--prefix", prefix);
    const byName = new Map(found.map((status) => [status.resource, status]));
    expect([...byName.keys()].sort()).toEqual([read, untagged, tagged].sort());
    const [reader, one, two, three] = locks.map(({ value }) => expect.objectContaining({ value }));
    const held = { state: "held", permitCount: null };
    expect(byName.get(read)).toMatchObject({ ...held, readers: [reader], permits: null });
    expect(byName.get(tagged)).toMatchObject({ ...held, readers: null, permits: [three] });
    const both = byName.get(untagged);
    expect(both).toMatchObject({ ...held, permits: expect.arrayContaining([one, two]) });
    expect(both?.permits).toHaveLength(2);
    const { out } = await cli.call(["top", "--prefix", prefix, ...PATIENT]);
    expect(out).toMatch(/:resize +2 permits +– +– /);
    expect(out).toMatch(/:resize +1 permit +– +– /);
    // Given by its name, a resource has as many permits as is said.
    const named = await snapshot("--permits", "3", "--prefix", prefix, untagged);
    expect(named.locks.filter(({ resource }) => resource === untagged)).toMatchObject([
      { state: "free", permitCount: 3 },
    ]);
    await Promise.all(locks.map((lock) => lock.release()));
  });

  test("reads a bounded part of the keys at each look, and says that there are more", async () => {
    const fill = "for i = 1, 20000 do redis.call('SET', 'filling:' .. i, 'x') end";
    await Promise.all(servers.map(({ port }) => ask(port, ["EVAL", fill, "0"])));
    try {
      const name = fresh("needle");
      const lock = await redlock.acquire(name, BUSY_MS);
      await Promise.all(servers.map(({ port }) => ask(port, ["CONFIG", "RESETSTAT"])));
      expect((await snapshot("--prefix", "needle")).scan).toMatchObject({ complete: false });
      const stats = await ask(defined(servers[0]).port, ["INFO", "commandstats"]);
      expect(Number(/cmdstat_scan:calls=(\d+)/.exec(stats)?.[1])).toBe(10);
      // The next looks read on, until all keys are read.
      const call = cli.start([
        "top",
        "--json",
        "--interval",
        "20ms",
        "--prefix",
        "needle",
        ...PATIENT,
      ]);
      const last = (): Snapshot => JSON.parse(call.out().split("\n").at(-2) ?? "{}") as Snapshot;
      await until(() => last().scan?.complete === true, BUSY_MS, call.err);
      expect(last().locks.map(({ resource }) => resource)).toEqual([name]);
      call.child.kill("SIGTERM");
      await call.ended;
      await lock.release();
    } finally {
      await Promise.all(servers.map(({ port }) => ask(port, ["FLUSHALL"])));
    }
  });

  test("shows at most 200 locks, and says how many more there are", async () => {
    const prefix = `${fresh()}:`;
    const names = Array.from({ length: 210 }, (_, index) => `${prefix}${index}`);
    const locks = await Promise.all(names.map((name) => redlock.acquire(name, BUSY_MS)));
    const { locks: shown, more } = await snapshot("--prefix", prefix);
    expect({ shown: shown.length, more }).toEqual({ shown: 200, more: 10 });
    await Promise.all(locks.map((lock) => lock.release()));
  });

  test("says so if a node refuses SCAN", async () => {
    const user = ["ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-scan"];
    await Promise.all(servers.map(({ port }) => ask(port, user)));
    const nodes = servers.map(({ port }) => `redis://limited:secret@127.0.0.1:${port}`).join(",");
    const { scan } = await snapshot("--nodes", nodes, "--prefix", "");
    expect(scan?.error).toMatch(/^NOPERM /);
    const { out } = await cli.call(["top", "--nodes", nodes, "--prefix", "", ...PATIENT]);
    expect(out).toMatch(/SCAN: NOPERM .*\n$/);
    expect(out).not.toContain("secret");
    // Without --prefix, nothing is searched.
    expect((await snapshot("--nodes", nodes)).scan).toBeNull();
  });
});
