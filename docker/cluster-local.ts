// The five nodes as plain processes that outlive the command which started them. Each has a folder
// of its own; a node is ours where the pid in that folder is that of a server which works there.

import { execFile } from "node:child_process";
import { mkdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  type Cluster,
  type ClusterNode,
  type FoundCluster,
  LOG_LINES_SHOWN,
  nodesOf,
  serverInfo,
  type Site,
} from "./nodes.js";
import { ensureServerBinary, processHasEnded, until } from "../tests/support/servers.js";

const END_TIMEOUT_MS = 5_000;
const CONFIG_FILE = "redis.conf";
const PID_FILE = "redis.pid";
const LOG_FILE = "redis.log";

export async function findLocalCluster(site: Site): Promise<FoundCluster> {
  const cluster = localCluster(site);
  const processes = await Promise.all(nodesOf(site).map((node) => cluster.identify(node)));
  return { cluster, exists: processes.some((process) => process !== undefined) };
}

function localCluster(site: Site): Cluster {
  const folderOf = (node: ClusterNode) => join(site.directory, node.name);
  const pidOf = (node: ClusterNode) => ownPid(node, folderOf(node));

  const startNode = async (node: ClusterNode) => {
    const pid = await pidOf(node);
    if (pid === undefined) await startDaemon(node, folderOf(node));
    else send(pid, "SIGCONT");
  };
  const signal = async (node: ClusterNode, name: NodeJS.Signals) => {
    const pid = await pidOf(node);
    if (pid === undefined) throw new Error(`${node.name} has no process of ours to signal`);
    send(pid, name);
    return pid;
  };

  return {
    mode: "local",
    async start() {
      await Promise.all(nodesOf(site).map(startNode));
    },
    async end(removeData) {
      await Promise.all(nodesOf(site).map(async (node) => endProcess(node, await pidOf(node))));
      if (removeData) await rm(site.directory, { recursive: true, force: true });
    },
    hasData: () =>
      stat(site.directory).then(
        () => true,
        () => false,
      ),
    async identify(node) {
      const pid = await pidOf(node);
      return pid === undefined ? undefined : `pid ${pid}`;
    },
    async lastWords(node) {
      const log = await readFile(join(folderOf(node), LOG_FILE), "utf8").catch(() => "");
      return log.trim().split("\n").slice(-LOG_LINES_SHOWN).join("\n");
    },
    async kill(node) {
      await hasEnded(node, await signal(node, "SIGKILL"));
    },
    revive: startNode,
    async freeze(node) {
      await signal(node, "SIGSTOP");
    },
    async thaw(node) {
      await signal(node, "SIGCONT");
    },
  };
}

async function startDaemon({ name, port }: ClusterNode, folder: string): Promise<void> {
  const binary = await ensureServerBinary();
  await mkdir(folder, { recursive: true });
  const settings = [
    `# Written by \`npm run cluster\` for ${name}.`,
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${JSON.stringify(folder)}`,
    `pidfile ${JSON.stringify(join(folder, PID_FILE))}`,
    `logfile ${JSON.stringify(join(folder, LOG_FILE))}`,
    "daemonize yes",
    "appendonly yes",
    "appendfsync always",
    "maxmemory-policy noeviction",
  ];
  await writeFile(join(folder, CONFIG_FILE), `${settings.join("\n")}\n`);
  await promisify(execFile)(binary, [join(folder, CONFIG_FILE)]);
}

/** A pid file outlives a SIGKILL, and its number may be another process's by then. */
async function ownPid({ port }: ClusterNode, folder: string): Promise<number | undefined> {
  const text = await readFile(join(folder, PID_FILE), "utf8").catch(() => "");
  const pid = Number.parseInt(text, 10);
  if (Number.isNaN(pid) || processHasEnded(pid)) return undefined;
  return (await standsIn(folder, pid)) || (await saysItIsOurs(port, folder, pid)) ? pid : undefined;
}

/** Known without an answer, so of a frozen server, too; but on Linux only. */
async function standsIn(folder: string, pid: number): Promise<boolean> {
  const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => "");
  const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
  return workingDirectory === folder && /^(redis|valkey)-server/.test(name);
}

async function saysItIsOurs(port: number, folder: string, pid: number): Promise<boolean> {
  const info = await serverInfo(port);
  return info?.pid === pid && info.configFile === join(folder, CONFIG_FILE);
}

async function endProcess(node: ClusterNode, pid: number | undefined): Promise<void> {
  if (pid === undefined) return;
  send(pid, "SIGCONT");
  send(pid, "SIGTERM");
  try {
    await hasEnded(node, pid);
  } catch {
    send(pid, "SIGKILL");
    await hasEnded(node, pid);
  }
}

/** A process that has ended in the meantime needs no signal. */
function send(pid: number, signal: NodeJS.Signals): void {
  if (!processHasEnded(pid)) process.kill(pid, signal);
}

async function hasEnded({ name }: ClusterNode, pid: number): Promise<void> {
  await until(
    () => processHasEnded(pid),
    END_TIMEOUT_MS,
    () => `${name} (pid ${pid}) did not end in time`,
  );
}
