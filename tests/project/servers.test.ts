import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import net from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "@jest/globals";
import {
  ask,
  claimPort,
  ensureServerBinary,
  freePorts,
  isPortTaken,
  processHasEnded,
  type RedisServer,
  SERVER_VARIABLE,
  type ServerOptions,
  startRedisCluster,
  startServer,
  startServers,
  stopAll,
  until,
} from "../support/servers.js";

const ASK_TIMEOUT_MS = 200;
const root = join(import.meta.dirname, "..", "..");

describe("a real server for the tests", () => {
  const started: RedisServer[] = [];

  const start = async (options?: ServerOptions) => {
    const server = await startServer(options);
    started.push(server);
    return server;
  };

  afterEach(() => stopAll(started.splice(0)));

  test("answers on loopback and keeps nothing on disk by itself", async () => {
    const server = await start();
    expect(server.url).toBe(`redis://127.0.0.1:${server.port}`);
    expect(server.state).toBe("running");
    expect(await ask(server.port, ["SET", "key", "välue"])).toBe("OK");
    expect(await ask(server.port, ["GET", "key"])).toBe("välue");
    expect(await ask(server.port, ["INFO", "persistence"])).toContain("aof_enabled:0");
  });

  test("takes arguments that override the defaults", async () => {
    const server = await start({ args: ["--appendonly", "yes"] });
    expect(await ask(server.port, ["INFO", "persistence"])).toContain("aof_enabled:1");
  });

  test("is ready even where it asks for a password", async () => {
    const server = await start({ args: ["--requirepass", "secret"] });
    await expect(ask(server.port, ["GET", "key"])).rejects.toThrow("NOAUTH");
  });

  test("keeps its sockets open and says nothing while frozen, and goes on when thawed", async () => {
    const server = await start();
    await server.freeze();
    expect(server.state).toBe("frozen");
    await expect(ask(server.port, ["PING"], ASK_TIMEOUT_MS)).rejects.toThrow("did not answer PING");
    server.thaw();
    expect(server.state).toBe("running");
    expect(await ask(server.port, ["PING"])).toBe("PONG");
  });

  test("refuses connections when killed, and restarts on the same port, empty", async () => {
    const server = await start();
    const { pid } = server;
    await ask(server.port, ["SET", "key", "value"]);
    await server.kill();
    expect(server.state).toBe("ended");
    expect(processHasEnded(pid)).toBe(true);
    await expect(ask(server.port, ["PING"])).rejects.toThrow("ECONNREFUSED");

    await server.restart();
    expect(server.pid).not.toBe(pid);
    expect(await ask(server.port, ["DBSIZE"])).toBe("0");
  });

  test("keeps its port while it is dead: no other server gets it", async () => {
    const server = await start();
    await server.kill();
    expect(await isPortTaken(server.port)).toBe(false);
    expect(await claimPort(server.port)).toBeNull();
    await server.stop();
    const claim = await claimPort(server.port);
    expect(claim).not.toBeNull();
    claim?.release();
  });

  test("finds its data again after a kill where its arguments persist them", async () => {
    const server = await start({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
    await ask(server.port, ["SET", "key", "value"]);
    await server.kill();
    await server.restart();
    expect(await ask(server.port, ["GET", "key"])).toBe("value");
  });

  test("leaves neither process nor directory when stopped, also when frozen", async () => {
    const servers = await startServers(2);
    await servers[0]?.freeze();
    await stopAll(servers);
    for (const { pid, directory, state } of servers) {
      expect(state).toBe("ended");
      expect(processHasEnded(pid)).toBe(true);
      expect(existsSync(directory)).toBe(false);
    }
  });

  test("says why it could not start, with the port and the server's own words", async () => {
    const [port = 0] = await freePorts(1);
    await expect(start({ port, args: ["--nonsense", "1"] })).rejects.toThrow(
      new RegExp(`port ${port} ended at once[^]*nonsense`),
    );
  });

  test("does not take another server on its port for its own", async () => {
    const { port } = await start();
    await expect(start({ port })).rejects.toThrow("Address already in use");
  });

  test.each(["SIGKILL", "exit"])("dies with the process that started it (%s)", async (how) => {
    const script = `
      import { startServer } from "./tests/support/servers.ts";
      const server = await startServer();
      await server.freeze();
      console.log(server.pid + " " + server.directory);
      process.stdin.once("data", () => process.exit());
    `;
    const args = ["--import", "tsx", "--input-type=module", "--eval", script];
    const parent = spawn(process.execPath, args, { cwd: root, stdio: ["pipe", "pipe", "inherit"] });
    const [printed] = (await once(parent.stdout, "data")) as [Buffer];
    const [first, directory = ""] = printed.toString().trim().split(" ");
    const pid = Number(first);
    expect(processHasEnded(pid)).toBe(false);
    const parentEnded = once(parent, "exit");
    if (how === "exit") parent.stdin.write("now");
    else parent.kill("SIGKILL");
    await until(
      () => processHasEnded(pid),
      5_000,
      () => `process ${pid} outlived its parent`,
    );
    await parentEnded;
    // Nobody is left to remove it after a SIGKILL.
    if (how === "SIGKILL") await rm(directory, { recursive: true });
    expect(existsSync(directory)).toBe(false);
  });
});

test("free ports are different, and below the range of outgoing connections", async () => {
  const ports = await freePorts(20);
  expect(new Set(ports).size).toBe(20);
  expect(Math.max(...ports)).toBeLessThan(32_768);
  expect(await Promise.all(ports.map(isPortTaken))).not.toContain(true);
});

test("a port that somebody listens on is taken", async () => {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  expect(await isPortTaken((listener.address() as net.AddressInfo).port)).toBe(true);
  listener.close();
});

test("a Redis Cluster of three masters serves all slots, and ends", async () => {
  const cluster = await startRedisCluster();
  const pids = cluster.servers.map((server) => server.pid);
  try {
    for (const { port } of cluster.servers) {
      const info = await ask(port, ["CLUSTER", "INFO"]);
      expect(info).toContain("cluster_state:ok");
      expect(info).toContain("cluster_slots_ok:16384");
      expect(info).toContain("cluster_size:3");
    }
  } finally {
    await cluster.stop();
  }
  expect(pids.map(processHasEnded)).toEqual([true, true, true]);
});

test("without a server binary and the means to install one, one line says what to install", async () => {
  await withEnvironment({ PATH: "", [SERVER_VARIABLE]: "" }, async () => {
    await expect(ensureServerBinary()).rejects.toThrow(/^.*apt-get install redis-server.*$/);
  });
});

test("the environment chooses the server binary, and one that cannot run is an error", async () => {
  await withEnvironment({ [SERVER_VARIABLE]: process.execPath }, async () => {
    expect(await ensureServerBinary()).toBe(process.execPath);
  });
  await withEnvironment({ [SERVER_VARIABLE]: "/nowhere/redis-server" }, async () => {
    await expect(ensureServerBinary()).rejects.toThrow(
      "REDLOCK_QUORUM_SERVER is /nowhere/redis-server, which is not a program that this user can run. " +
        "Set it to the path of a redis-server or valkey-server.",
    );
  });
});

async function withEnvironment(
  values: Record<string, string>,
  action: () => Promise<void>,
): Promise<void> {
  const before = { ...process.env };
  Object.assign(process.env, values);
  try {
    await action();
  } finally {
    for (const name of Object.keys(values)) {
      const value = before[name];
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
}
