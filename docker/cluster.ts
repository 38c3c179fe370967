// `npm run cluster`: five independent Redis servers on this machine, for trying things out.

import { realpathSync } from "node:fs";
import { Argument } from "commander";
import { findComposeCluster } from "./cluster-compose.js";
import { findLocalCluster } from "./cluster-local.js";
import {
  type Cluster,
  type ClusterNode,
  defaultSite,
  type FoundCluster,
  nodesOf,
  serverInfo,
  type Site,
} from "./nodes.js";
import { portHolder } from "./port-holder.js";
import { answersPing, isPortTaken, until } from "../tests/support/servers.js";
import { coloured, npmScript } from "../tests/support/terminal.js";

const COMMANDS = `
Commands:
  up      start five Redis servers on 127.0.0.1:6391 to 6395, or reuse those
          that run already
  status  show what runs
  down    stop them and keep their data

Exit status: 0 if all five servers answer (down: if they are stopped), 1 if not,
2 for wrong arguments.`;

const UP_TIMEOUT_MS = 30_000;

export interface RunningCluster {
  readonly cluster: Cluster;
  /** False where it ran already. */
  readonly started: boolean;
  /** True where no earlier run had left any. */
  readonly dataIsNew: boolean;
}

/** Where it fails to start a cluster, it leaves none behind. */
export async function up(site: Site, local: boolean): Promise<RunningCluster> {
  const { cluster, exists } = await findCluster(site, local);
  await refuseForeignPorts(cluster, site);
  const dataIsNew = !(await cluster.hasData());
  try {
    const answering = await Promise.all(site.ports.map(answersPing));
    if (answering.includes(false)) await start(cluster, site);
    await Promise.all(nodesOf(site).map((node) => answers(cluster, node)));
  } catch (error) {
    if (!exists) await cluster.end(dataIsNew).catch(() => undefined);
    throw error;
  }
  return { cluster, started: !exists, dataIsNew };
}

async function start(cluster: Cluster, site: Site): Promise<void> {
  try {
    await cluster.start();
  } catch (error) {
    // A container that was stopped may find its port taken.
    const holders = await takenPorts(site, () => Promise.resolve(true));
    throw new Error([messageOf(error), ...holders].join("\n"), { cause: error });
  }
}

/** Ours that is there already; or else one that could be, in Docker where an engine answers. */
async function findCluster(site: Site, local: boolean): Promise<FoundCluster> {
  const processes = await findLocalCluster(site);
  if (processes.exists) return processes;
  const taken = await Promise.all(site.ports.map(isPortTaken));
  if (local && !taken.includes(true)) return processes;
  const containers = await findComposeCluster(site);
  return containers === undefined || (local && !containers.exists) ? processes : containers;
}

async function refuseForeignPorts(cluster: Cluster, site: Site): Promise<void> {
  const foreign = async (node: ClusterNode) => (await cluster.identify(node)) === undefined;
  const lines = await takenPorts(site, foreign);
  if (lines.length > 0) throw new Error(lines.join("\n"));
}

/** One line for each taken port of the nodes that pass `filter`. */
async function takenPorts(
  site: Site,
  filter: (node: ClusterNode) => Promise<boolean>,
): Promise<string[]> {
  const lines = nodesOf(site).map(async (node) => {
    if (!(await isPortTaken(node.port)) || !(await filter(node))) return [];
    return `Port ${node.port} for ${node.name} is held by ${await portHolder(node.port)}.`;
  });
  return (await Promise.all(lines)).flat();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function answers(cluster: Cluster, node: ClusterNode): Promise<void> {
  const where = `${node.name} on 127.0.0.1:${node.port}`;
  try {
    await until(
      () => answersPing(node.port),
      UP_TIMEOUT_MS,
      () => "no answer",
    );
  } catch {
    const words = await cluster.lastWords(node);
    throw new Error(`${where} did not answer in ${UP_TIMEOUT_MS / 1_000} s; its log:\n${words}`);
  }
}

/** Prints one line a node and how many are up; true if all are. */
async function printNodes({ cluster, exists }: FoundCluster, site: Site): Promise<boolean> {
  const rows = await Promise.all(
    nodesOf(site).map(async (node) => {
      const identity = exists ? await cluster.identify(node) : undefined;
      const info = identity === undefined ? undefined : await serverInfo(node.port);
      const what = identity ?? (await strangerOn(node.port));
      const version = info?.version ?? (identity === undefined ? "" : "does not answer");
      return { name: node.name, port: node.port, isUp: info !== undefined, what, version };
    }),
  );
  for (const { name, port, isUp, what, version } of rows) {
    const state = isUp ? "up  " : "down";
    console.log(`${name}  127.0.0.1:${port}  ${state}  ${what}  ${version}`.trimEnd());
  }
  const upCount = rows.filter(({ isUp }) => isUp).length;
  const areAllUp = upCount === rows.length;
  const verdict = areAllUp
    ? `All ${upCount} nodes are up.`
    : `${upCount} of ${rows.length} nodes are up.`;
  console.log(coloured(areAllUp ? "green" : "red", verdict));
  return areAllUp;
}

async function strangerOn(port: number): Promise<string> {
  return (await isPortTaken(port)) ? `port held by ${await portHolder(port)}` : "nothing runs";
}

async function runUp(site: Site, local: boolean): Promise<number> {
  const { cluster, started } = await up(site, local);
  if (!started) console.log(`Already running (${cluster.mode}).`);
  else if (cluster.mode === "local" && !local) {
    console.log("No Docker engine answers: these are plain processes.");
  }
  await printNodes({ cluster, exists: true }, site);
  return 0;
}

async function runStatus(site: Site, local: boolean): Promise<number> {
  const found = await findCluster(site, local);
  console.log(found.exists ? `Mode: ${found.cluster.mode}` : "The cluster is not running.");
  return (await printNodes(found, site)) ? 0 : 1;
}

async function runDown(site: Site, local: boolean, removeData: boolean): Promise<number> {
  const { cluster, exists } = await findCluster(site, local);
  if (exists || removeData) await cluster.end(removeData);
  const what = exists ? `Ended (${cluster.mode})` : "The cluster was not running";
  console.log(`${what}, data ${removeData ? "removed" : "kept"}.`);
  return 0;
}

interface Call {
  readonly command: string;
  readonly local: boolean;
  readonly volumes: boolean;
}

/** Runs one command and returns its exit code. A wrong call ends the process. */
export async function main(args: readonly string[], site: Site): Promise<number> {
  const { command, local, volumes } = parseCall(args);
  try {
    if (command === "up") return await runUp(site, local);
    if (command === "status") return await runStatus(site, local);
    return await runDown(site, local, volumes);
  } catch (error) {
    console.error(messageOf(error));
    return 1;
  }
}

function parseCall(args: readonly string[]): Call {
  const program = npmScript("cluster", "Runs five independent Redis servers on this machine.")
    .usage("-- up|status|down [options]")
    .addArgument(new Argument("<command>", "see below").choices(["up", "status", "down"]))
    .option("--local", "plain processes; also the choice if no Docker engine answers", false)
    .option("--volumes", "with down: remove the data, too", false)
    .addHelpText("after", COMMANDS)
    .parse([...args], { from: "user" });
  const [command = ""] = program.args;
  const options = program.opts<{ local: boolean; volumes: boolean }>();
  if (options.volumes && command !== "down") program.error("--volumes goes only with down.");
  return { command, ...options };
}

const [, script] = process.argv;
if (script !== undefined && realpathSync(script) === import.meta.filename) {
  // An engine that does not answer would hold the process open.
  process.exit(await main(process.argv.slice(2), defaultSite));
}
