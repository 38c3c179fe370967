import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { findLocalCluster } from "../../docker/cluster-local.js";
import { nodesOf, type Site } from "../../docker/nodes.js";
import {
  ask,
  ensureServerBinary,
  freePorts,
  isPortTaken,
  processHasEnded,
  until,
} from "../support/servers.js";
import { cluster, pidOnPort, root, run } from "../support/cluster-script.js";

const END_TIMEOUT_MS = 5_000;

let folder: string;
let site: Site;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "redlock-quorum-cluster-")));
  site = { ports: await freePorts(5), directory: join(folder, "data") };
});

afterEach(async () => {
  const { cluster: local, exists } = await findLocalCluster(site);
  if (exists) await local.end(true);
  await rm(folder, { recursive: true, force: true });
});

describe("npm run cluster", () => {
  test("status looks at 127.0.0.1:6391 to 6395", async () => {
    const { out, code } = await run("npm", ["run", "cluster", "--", "status", "--local"]);
    for (const port of [6391, 6392, 6393, 6394, 6395]) expect(out).toContain(`127.0.0.1:${port}`);
    expect([0, 1]).toContain(code);
  });

  test.each([["nonsense"], ["up --volumes"], ["up down"], ["status --fast"], [""]])(
    "answers %j with one line that names the help, and exit code 2",
    async (line) => {
      const { code, err } = await cluster(site, line.split(" "));
      expect(err).toMatch(
        /^npm run cluster: .* Run npm run cluster -- --help for the options\.\n$/,
      );
      expect(code).toBe(2);
    },
  );
});

describe("with --local", () => {
  test("up mends what was killed or frozen, and says so before", async () => {
    await cluster(site, ["up", "--local"]);
    const [killed = 0, frozen = 0, ...others] = await Promise.all(site.ports.map(pidOnPort));
    process.kill(killed, "SIGKILL");
    process.kill(frozen, "SIGSTOP");

    const status = await cluster(site, ["status", "--local"]);
    expect(status.code).toBe(1);
    expect(status.out).toMatch(/redis-1 .* down {2}nothing runs/);
    expect(status.out).toMatch(new RegExp(`redis-2 .* down {2}pid ${frozen} {2}does not answer`));

    expect((await cluster(site, ["up", "--local"])).code).toBe(0);
    const pids = await Promise.all(site.ports.map(pidOnPort));
    expect(pids.slice(1)).toEqual([frozen, ...others]);
  });

  test("down ends a frozen server and keeps its data, down --volumes removes it", async () => {
    const [port = 0] = site.ports;
    await cluster(site, ["up", "--local"]);
    await ask(port, ["SET", "key", "value"]);
    process.kill(await pidOnPort(port), "SIGSTOP");
    expect((await cluster(site, ["down", "--local"])).out).toContain("data kept");

    await cluster(site, ["up", "--local"]);
    expect(await ask(port, ["GET", "key"])).toBe("value");
    expect((await cluster(site, ["down", "--local", "--volumes"])).out).toContain("data removed");

    await cluster(site, ["up", "--local"]);
    expect(await ask(port, ["DBSIZE"])).toBe("0");
  });

  test("down leaves a stranger alone whose pid stands in an old pid file", async () => {
    const stranger = spawn(process.execPath, ["--eval", "setInterval(() => {}, 1000)"]);
    const home = join(site.directory, "redis-1");
    await mkdir(home, { recursive: true });
    await writeFile(join(home, "redis.pid"), `${String(stranger.pid)}\n`);
    expect((await cluster(site, ["down", "--local"])).out).toContain("was not running");
    expect(stranger.signalCode).toBeNull();
    const ended = once(stranger, "exit");
    stranger.kill("SIGUSR2");
    // Had it been sent a signal before, that one would have ended it.
    expect((await ended)[1]).toBe("SIGUSR2");
  });

  test("a port held by somebody else is named with its holder, and nothing is started", async () => {
    const [first = 0, second = 0, ...others] = site.ports;
    const holder = net.createServer().listen(second, "127.0.0.1");
    await once(holder, "listening");
    try {
      const { code, err } = await cluster(site, ["up", "--local"]);
      expect(code).toBe(1);
      expect(err).toMatch(
        new RegExp(`Port ${second} for redis-2 is held by .*pid ${process.pid}\\)`),
      );
      expect(await Promise.all([first, ...others].map(isPortTaken))).not.toContain(true);
      const status = await cluster(site, ["status", "--local"]);
      expect(status.out).toMatch(new RegExp(`redis-2 .* port held by .*pid ${process.pid}\\)`));
    } finally {
      holder.close();
    }
  });
});

/** Stand-ins for Docker's programs on a PATH with nothing else: they log their calls. */
describe("with Docker", () => {
  let env: NodeJS.ProcessEnv;
  let bin: string;

  beforeEach(async () => {
    bin = join(folder, "bin");
    await mkdir(bin);
    const server = await ensureServerBinary();
    await symlink(server, join(bin, "redis-server"));
    env = { PATH: bin, HOME: folder };
  });

  afterEach(() => composeEndsItsServers());

  /** `compose` starts real servers on `up` and ends them on `down`. */
  async function install(program: "docker" | "docker-compose", hasCompose: boolean) {
    const starts = nodesOf(site).map(({ name, port }) => {
      const files = `--dir ${folder} --pidfile ${folder}/${name}.pid`;
      return `redis-server --port ${port} --bind 127.0.0.1 --save "" --daemonize yes ${files} >&2`;
    });
    const ends = nodesOf(site).map(({ name }) => `read pid <${folder}/${name}.pid; kill $pid`);
    const isUp = `[ -f ${folder}/redis-1.pid ]`;
    const cases = [
      `*" ps --all --quiet") if ${isUp}; then echo 1234567890abcdef; fi ;;`,
      `*" ps --quiet "*) if ${isUp}; then echo 1234567890abcdef; fi ;;`,
      `*" up --detach") ${starts.join("; ")} ;;`,
      `*" down"*) ${ends.join("; ")} ;;`,
      `*) exit 1 ;;`,
    ];
    const answer = hasCompose
      ? `case "$*" in\n${cases.join("\n")}\nesac`
      : "echo \"unknown shorthand flag: 'p' in -p\" >&2; exit 125";
    const script = `#!/bin/sh\necho "${program} $*" >>${folder}/calls\n${answer}\n`;
    await writeFile(join(bin, program), script, { mode: 0o755 });
  }

  async function calls(): Promise<string[]> {
    const text = await readFile(join(folder, "calls"), "utf8").catch(() => "");
    await rm(join(folder, "calls"), { force: true });
    return text.split("\n").filter((line) => line !== "");
  }

  async function composeEndsItsServers() {
    for (const { name, port } of nodesOf(site)) {
      const pid = await readFile(join(folder, `${name}.pid`), "utf8").catch(() => undefined);
      if (pid === undefined) continue;
      if (!processHasEnded(Number(pid))) process.kill(Number(pid));
      await until(
        async () => !(await isPortTaken(port)),
        END_TIMEOUT_MS,
        () => `port ${port} is still held`,
      );
    }
  }

  const options = `--project-name redlock-quorum -f ${root}/docker/docker-compose.yml`;

  test.each([
    ["docker compose", "the plugin", true],
    ["docker-compose", "the standalone program", false],
  ])(
    "up, up again, status and down go through `%s` where %s is there",
    async (program, _what, hasPlugin) => {
      await install("docker", hasPlugin);
      await install("docker-compose", true);
      const ours = (lines: string[]) => lines.filter((line) => line.startsWith(`${program} `));

      expect(await cluster(site, ["up"], env)).toMatchObject({ code: 0 });
      const upCalls = await calls();
      expect(ours(upCalls)).toContain(`${program} ${options} up --detach`);
      const other = hasPlugin ? "docker-compose " : "docker compose ";
      const strays = upCalls.filter((line) => line.startsWith(other) && !line.endsWith("--quiet"));
      expect(strays).toEqual([]);

      const again = await cluster(site, ["up"], env);
      expect(again.out).toContain("Already running (docker)");
      expect(await calls()).not.toContain(`${program} ${options} up --detach`);

      const status = await cluster(site, ["status"], env);
      expect(status.code).toBe(0);
      expect(status.out).toContain("Mode: docker");
      expect(status.out).toMatch(/redis-5 .* up {4}container 1234567890ab {2}/);

      expect(await cluster(site, ["down", "--volumes"], env)).toMatchObject({ code: 0 });
      expect(await calls()).toContain(`${program} ${options} down --volumes`);
    },
  );

  test("up --local reuses the containers that run already", async () => {
    await install("docker", true);
    await cluster(site, ["up"], env);
    const { code, out } = await cluster(site, ["up", "--local"], env);
    expect(code).toBe(0);
    expect(out).toContain("Already running (docker)");
  });

  test.each([
    ["no program of Docker's is there", false],
    ["its programs are there but reach no engine", true],
  ])("up runs plain processes where %s", async (_why, areThere) => {
    if (areThere) await install("docker", false);
    if (areThere) await install("docker-compose", false);
    const { code, out } = await cluster(site, ["up"], env);
    expect(code).toBe(0);
    expect(out).toContain("No Docker engine answers");
    expect((await cluster(site, ["status"], env)).out).toContain("Mode: local");
  });

  test("a failing `compose up` fails the command with Compose's own words", async () => {
    const script =
      '#!/bin/sh\ncase "$*" in *" ps "*) ;; *) echo no such image >&2; exit 1 ;; esac\n';
    await writeFile(join(bin, "docker"), script, { mode: 0o755 });
    const { code, err } = await cluster(site, ["up"], env);
    expect(code).toBe(1);
    expect(err).toContain("no such image");
    expect(err).toContain("docker compose up failed");
  });

  test("where there is neither Docker nor a server nor a way to install one, one line says what to do", async () => {
    await rm(join(bin, "redis-server"));
    const { code, err } = await cluster(site, ["up"], env);
    expect(code).toBe(1);
    expect(err).toMatch(/^Neither redis-server nor valkey-server .*apt-get install.*\n$/);
  });
});
