// Real Redis (or Valkey) servers on loopback, for the tests, the demo, `cluster --local` and the
// benchmarks. A server's process is owned by the process that started it and ends with it.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { constants, readFileSync, rmSync } from "node:fs";
import { access, mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 3_000;
const POLL_INTERVAL_MS = 10;
const OUTPUT_LINES_KEPT = 20;
/** The path of the server binary to use. Without it, the one on the PATH. */
export const SERVER_VARIABLE = "REDLOCK_QUORUM_SERVER";

export interface ServerOptions {
  /** Left out, a free port is taken. */
  readonly port?: number;
  /** Left out, a temporary one is made, and removed by `stop`. */
  readonly directory?: string;
  /** Put after the defaults (loopback only, no persistence), so that they override them. */
  readonly args?: readonly string[];
}

export type ServerState = "running" | "frozen" | "ended";

/** How many times longer than usual something may take, as more is to be done than there are processors. */
export function slowness(): number {
  const [load = 0] = loadavg();
  return Math.max(1, load / availableParallelism());
}

/** Waits until `condition` holds, polling it; rejects with `message` after `timeoutMs`, or later on a busy machine. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  message: () => string,
): Promise<void> {
  const startMs = performance.now();
  while (!(await condition())) {
    if (performance.now() - startMs > timeoutMs * slowness()) throw new Error(message());
    await sleep(POLL_INTERVAL_MS);
  }
}

/**
 * Sends one command on a connection of its own, without any client library, and gives the reply (a
 * status, a number or a string). Rejects where the reply is an error, or not there in `timeoutMs`.
 */
export function ask(port: number, command: readonly string[], timeoutMs = 10_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const name = command.join(" ");
    let received = Buffer.alloc(0);
    const socket = net.connect(port, "127.0.0.1");
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(timeoutMs, () => {
      fail(new Error(`127.0.0.1:${port} did not answer ${name} in ${timeoutMs} ms`));
    });
    socket.on("error", fail);
    socket.on("close", () => {
      reject(new Error(`127.0.0.1:${port} closed the connection before it answered ${name}`));
    });
    socket.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      const reply = parseReply(received);
      if (reply instanceof Error) fail(reply);
      else if (reply !== undefined) {
        resolve(reply);
        socket.destroy();
      }
    });
    const parts = command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
    socket.write(`*${parts.length}\r\n${parts.join("")}`);
  });
}

/** `undefined` while the reply is not complete; the empty string for a null. */
function parseReply(received: Buffer): string | Error | undefined {
  const headEnd = received.indexOf("\r\n");
  if (headEnd === -1) return undefined;
  const head = received.toString("utf8", 1, headEnd);
  switch (received.toString("utf8", 0, 1)) {
    case "+":
    case ":":
      return head;
    case "$": {
      if (head === "-1") return "";
      const bodyEnd = headEnd + 2 + Number(head);
      return received.length < bodyEnd + 2
        ? undefined
        : received.toString("utf8", headEnd + 2, bodyEnd);
    }
    case "-":
      return new Error(head);
    default:
      return new Error(`cannot read the reply ${JSON.stringify(head)}`);
  }
}

/** Ports on loopback that are free, and that no other process on this machine gets from here before this one ends. */
export async function freePorts(count: number): Promise<number[]> {
  return (await claimFreePorts(count)).map(({ port }) => port);
}

/** Keeps others from being given a port: a server that was killed may start again on its own. */
interface Claim {
  readonly port: number;
  release(): void;
}

async function claimFreePorts(count: number): Promise<Claim[]> {
  const claims: Claim[] = [];
  for (let tries = 0; claims.length < count; tries++) {
    if (tries > 100 * count) throw new Error(`found no ${count} free ports on 127.0.0.1`);
    // Below the range that the kernel gives to outgoing connections, and so is a Cluster node's
    // second port, 10 000 higher: a client that reconnects to a dead server on such a port could
    // be given that very port as its own, and would be connected to itself.
    const port = 11_000 + Math.floor(Math.random() * 10_000);
    const claim = await claimPort(port);
    if (claim === null) continue;
    if (await isPortTaken(port)) claim.release();
    else claims.push(claim);
  }
  return claims;
}

/** Claims the port by its namesake of UDP, which nothing here uses: the kernel lets go of it when this process ends. */
export function claimPort(port: number): Promise<Claim | null> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", () => {
      socket.close();
      resolve(null);
    });
    socket.bind({ port, address: "127.0.0.1", exclusive: true }, () => {
      socket.unref();
      resolve({ port, release: () => void socket.close() });
    });
  });
}

function close(listener: net.Server): Promise<unknown> {
  return new Promise((done) => listener.close(done));
}

export async function isPortTaken(port: number): Promise<boolean> {
  const listener = await listen(port);
  if (listener === null) return true;
  await close(listener);
  return false;
}

function listen(port: number): Promise<net.Server | null> {
  return new Promise((resolve) => {
    const listener = net.createServer();
    listener.once("error", () => {
      resolve(null);
    });
    listener.listen(port, "127.0.0.1", () => {
      resolve(listener);
    });
  });
}

export async function findOnPath(...names: string[]): Promise<string | undefined> {
  for (const name of names) {
    for (const directory of (process.env["PATH"] ?? "").split(delimiter)) {
      const path = join(directory, name);
      if (directory !== "" && (await isExecutable(path))) return path;
    }
  }
  return undefined;
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Returns the path of a server binary. Installs Debian's where there is none and this process may. */
export async function ensureServerBinary(): Promise<string> {
  const chosen = process.env[SERVER_VARIABLE] ?? "";
  if (chosen !== "") {
    if (await isExecutable(chosen)) return chosen;
    throw new Error(
      `${SERVER_VARIABLE} is ${chosen}, which is not a program that this user can run. ` +
        "Set it to the path of a redis-server or valkey-server.",
    );
  }
  const present = await findOnPath("redis-server", "valkey-server");
  if (present !== undefined) return present;
  const cause = await ensureDebianPackage("redis-server");
  const installed = await findOnPath("redis-server");
  if (installed !== undefined) return installed;
  throw new Error(
    "Neither redis-server nor valkey-server is on the PATH: install one " +
      "(Debian: apt-get install redis-server; macOS: brew install redis) or start Docker.",
    { cause },
  );
}

const installing = new Map<string, Promise<unknown>>();

/** Installs it, where this process may. Gives the error, if there is one. */
export async function ensureDebianPackage(name: string): Promise<unknown> {
  if (process.getuid?.() !== 0 || (await findOnPath("apt-get")) === undefined) return undefined;
  const present = installing.get(name);
  const install = present ?? installDebian(name).catch((error: unknown) => error);
  installing.set(name, install);
  return install;
}

async function installDebian(name: string): Promise<void> {
  console.error(`There is no ${name} on this machine; installing Debian's.`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const run = (file: string, ...args: string[]) => promisify(execFile)(file, args, { env });
  // Debian starts what it installs, unless this script says no (101).
  const policy = "/usr/sbin/policy-rc.d";
  const policyIsOurs = await writeFile(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755, flag: "wx" })
    .then(() => true)
    .catch(() => false);
  try {
    await run("apt-get", "update", "-qq");
    await run("apt-get", "install", "-y", "-qq", name);
    // Nor is it to start with the machine.
    await run("update-rc.d", name, "disable");
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    throw error;
  } finally {
    if (policyIsOurs) await rm(policy, { force: true });
  }
}

const live = new Set<RedisServer>();

function endWithParent(server: RedisServer): void {
  if (live.size === 0) process.once("exit", killAllNow);
  live.add(server);
}

function forget(server: RedisServer): void {
  live.delete(server);
  if (live.size === 0) process.removeListener("exit", killAllNow);
}

function killAllNow(): void {
  for (const server of live) server.killNow();
}

/** A running server process. `startServer` makes one. */
export class RedisServer {
  readonly port: number;
  readonly url: string;
  readonly directory: string;
  readonly #command: readonly string[];
  readonly #ownsDirectory: boolean;
  #claim: Claim | undefined;
  #child: ChildProcess | undefined;
  #frozen = false;
  #output: string[] = [];

  constructor(
    command: readonly string[],
    port: number,
    directory: string,
    ownsDirectory: boolean,
    claim?: Claim,
  ) {
    this.port = port;
    this.#claim = claim;
    this.url = `redis://127.0.0.1:${port}`;
    this.directory = directory;
    this.#command = command;
    this.#ownsDirectory = ownsDirectory;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`The server on port ${this.port} was never started`);
    return pid;
  }

  get state(): ServerState {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) {
      return "ended";
    }
    return this.#frozen ? "frozen" : "running";
  }

  /** The last lines that the process printed. */
  get output(): string {
    return this.#output.join("\n");
  }

  /** Starts the process, first or again, on the same port with the same directory and arguments. */
  async restart(): Promise<void> {
    if (this.state !== "ended") throw new Error(`Port ${this.port}: the server still runs`);
    this.#output = [];
    this.#frozen = false;
    const [file = "", ...args] = this.#command;
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#child = child;
    endWithParent(this);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#keepOutput(text);
      });
    }
    child.on("error", (error) => {
      this.#keepOutput(error.message);
    });
    await this.#answers(child.stdout);
  }

  /** Stops the process where it stands (SIGSTOP): its sockets stay open and say nothing. */
  async freeze(): Promise<void> {
    this.#signal("SIGSTOP");
    this.#frozen = true;
    const { pid } = this;
    await until(
      () => isStopped(pid),
      STOP_TIMEOUT_MS,
      () => `Port ${this.port}: process ${pid} did not stop`,
    );
  }

  thaw(): void {
    this.#signal("SIGCONT");
    this.#frozen = false;
  }

  /** Ends the process without a warning (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.#ended(STOP_TIMEOUT_MS);
  }

  /** Ends the process properly, and removes its directory where that was a temporary one. */
  async stop(): Promise<void> {
    this.#signal("SIGCONT");
    this.#signal("SIGTERM");
    await this.#ended(STOP_TIMEOUT_MS).catch(() => this.kill());
    forget(this);
    this.#claim?.release();
    this.#claim = undefined;
    if (this.#ownsDirectory) await rm(this.directory, { recursive: true, force: true });
  }

  /** For the moment in which this process exits, when there is no time left to wait. */
  killNow(): void {
    this.#signal("SIGKILL");
    if (this.#ownsDirectory) rmSync(this.directory, { recursive: true, force: true });
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.state !== "ended") this.#child?.kill(signal);
  }

  #keepOutput(text: string): void {
    const lines = text.split("\n").filter((line) => line.trim() !== "");
    this.#output = [...this.#output, ...lines].slice(-OUTPUT_LINES_KEPT);
  }

  async #answers(stdout: Readable): Promise<void> {
    // Its own word comes first: PING alone could be answered by another server on this port.
    const isReady = async () => {
      if (this.state === "ended") {
        await finished(stdout).catch(() => undefined);
        throw this.#startError("ended at once");
      }
      return this.output.includes("Ready to accept connections") && (await answersPing(this.port));
    };
    await until(isReady, START_TIMEOUT_MS, () => {
      return this.#startError("did not answer in time").message;
    });
  }

  #startError(what: string): Error {
    return new Error(`The Redis server on port ${this.port} ${what}:\n${this.output}`);
  }

  #ended(timeoutMs: number): Promise<void> {
    return until(
      () => this.state === "ended",
      timeoutMs,
      () => `Port ${this.port}: process ${this.pid} did not end in time`,
    );
  }
}

/** Also true where it asks for a password. */
export async function answersPing(port: number): Promise<boolean> {
  try {
    return (await ask(port, ["PING"])) === "PONG";
  } catch (error) {
    return error instanceof Error && error.message.startsWith("NOAUTH");
  }
}

/** SIGSTOP takes effect a little after it was sent. Without /proc (macOS) this cannot be seen. */
function isStopped(pid: number): boolean {
  return (processState(pid) ?? "T") === "T";
}

export function processHasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Not `instanceof Error`: in Jest, an error of Node's own is of another realm.
    return typeof error === "object" && error !== null && "code" in error && error.code === "ESRCH";
  }
  // One that has ended is a zombie for as long as its parent (in a container, often one that
  // never does) has not asked how.
  return processState(pid) === "Z";
}

/** The letter that proc(5) gives a process, or `undefined` where there is no such process. */
function processState(pid: number): string | undefined {
  try {
    return /\) (\w) /.exec(readFileSync(`/proc/${pid}/stat`, "utf8"))?.[1];
  } catch {
    return undefined;
  }
}

export async function startServer(options: ServerOptions = {}): Promise<RedisServer> {
  for (let attempt = 1; ; attempt++) {
    const server = await prepareServer(options);
    try {
      await server.restart();
      return server;
    } catch (error) {
      await server.stop();
      // Another process may have taken the free port in the meantime.
      const mayRetry = options.port === undefined && server.output.includes("in use");
      if (!mayRetry || attempt === 5) throw error;
    }
  }
}

async function prepareServer(options: ServerOptions): Promise<RedisServer> {
  const binary = await ensureServerBinary();
  const [claim] = options.port === undefined ? await claimFreePorts(1) : [];
  const port = options.port ?? claim?.port ?? 0;
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "redlock-quorum-")));
  // prettier-ignore
  const defaults = [
    "--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--daemonize", "no",
    "--save", "", "--appendonly", "no",
  ];
  const command = [...(await diesWithParent()), binary, ...defaults, ...(options.args ?? [])];
  return new RedisServer(command, port, directory, options.directory === undefined, claim);
}

let prefix: Promise<string[]> | undefined;

/**
 * What to put before a command so that the kernel ends it when this process dies: even of SIGKILL,
 * and in Jest, where a process's exit event is not that of the sandbox. Not everywhere to be had.
 */
export function diesWithParent(): Promise<string[]> {
  const command = ["setpriv", "--pdeathsig", "KILL"] as const;
  const [file, ...args] = command;
  return (prefix ??= promisify(execFile)(file, [...args, "true"]).then(
    () => [...command],
    () => [],
  ));
}

/** Several servers with the same options; where one fails to start, the others are stopped. */
export async function startServers(
  count: number,
  options: Omit<ServerOptions, "port" | "directory"> = {},
): Promise<RedisServer[]> {
  const starts = Array.from({ length: count }, () => startServer(options));
  const results = await Promise.allSettled(starts);
  const started = results.flatMap((result) => (result.status === "fulfilled" ? result.value : []));
  if (started.length < count) {
    await stopAll(started);
    await Promise.all(starts);
  }
  return started;
}

export async function stopAll(servers: Iterable<RedisServer>): Promise<void> {
  await Promise.all(Array.from(servers, (server) => server.stop()));
}

export interface RedisCluster {
  readonly servers: readonly RedisServer[];
  stop(): Promise<void>;
}

const CLUSTER_SLOTS = 16_384;

/** A real Redis Cluster: three masters, no replicas, all slots served. */
export async function startRedisCluster(): Promise<RedisCluster> {
  const args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
  const servers = await startServers(3, { args });
  try {
    await Promise.all(
      servers.map(async ({ port }, index) => {
        const first = Math.ceil((CLUSTER_SLOTS * index) / servers.length);
        const last = Math.ceil((CLUSTER_SLOTS * (index + 1)) / servers.length) - 1;
        await serveSlots(port, first, last);
        // Nodes that meet at the same epoch would first have to agree who is older.
        await ask(port, ["CLUSTER", "SET-CONFIG-EPOCH", String(index + 1)]);
      }),
    );
    const [seed, ...others] = servers;
    for (const { port } of others) {
      await ask(port, ["CLUSTER", "MEET", "127.0.0.1", String(seed?.port)]);
    }
    await Promise.all(servers.map((server) => clusterIsWhole(server, servers.length)));
  } catch (error) {
    await stopAll(servers);
    throw error;
  }
  return { servers, stop: () => stopAll(servers) };
}

/** Makes a Cluster node serve the slots from `first` to `last`. One by one: Redis 6.0 takes no ranges. */
export async function serveSlots(port: number, first = 0, last = CLUSTER_SLOTS - 1): Promise<void> {
  const slots = Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
  await ask(port, ["CLUSTER", "ADDSLOTS", ...slots], 10_000);
}

async function clusterIsWhole({ port }: RedisServer, size: number): Promise<void> {
  let info = "";
  await until(
    async () => {
      info = await ask(port, ["CLUSTER", "INFO"]);
      return info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${size}\r`);
    },
    START_TIMEOUT_MS,
    () => `The Redis Cluster node on port ${port} found no whole cluster:\n${info}`,
  );
}
