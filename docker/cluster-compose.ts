// The five nodes as containers, by the compose file beside this one.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { execCompose, type IDockerComposeOptions, type IDockerComposeResult } from "docker-compose";
import {
  type Cluster,
  type ClusterNode,
  type FoundCluster,
  LOG_LINES_SHOWN,
  nodesOf,
  type Site,
} from "./nodes.js";
import { answersPing } from "../tests/support/servers.js";

const PROJECT = "redlock-quorum";
const ENGINE_TIMEOUT_MS = 10_000;
const CONTAINER_ID_LENGTH = 12;

type Compose = (command: string, args: string[], log?: boolean) => Promise<IDockerComposeResult>;

/** `undefined` where neither `docker compose` nor `docker-compose` reaches an engine. */
export async function findComposeCluster(site: Site): Promise<FoundCluster | undefined> {
  for (const compose of [composeBy({}), composeBy({ executable: { standalone: true } })]) {
    // The version alone would be told without an engine, too.
    const list = compose("ps", ["--all", "--quiet"]).catch(() => undefined);
    const containers = await Promise.race([
      list,
      sleep(ENGINE_TIMEOUT_MS, undefined, { ref: false }),
    ]);
    if (containers === undefined) continue;
    return { cluster: composeCluster(compose, site), exists: containers.out.trim() !== "" };
  }
  return undefined;
}

function composeBy(variant: IDockerComposeOptions): Compose {
  return async (command, args, log = false) => {
    try {
      return await execCompose(command, args, {
        ...variant,
        config: join(import.meta.dirname, "docker-compose.yml"),
        composeOptions: ["--project-name", PROJECT],
        log,
      });
    } catch (error) {
      // Where the program ran and failed, this is a plain object.
      const words = isResult(error) ? error.err.trim() : String(error);
      const reason = log ? "see above" : words;
      throw new Error(`docker compose ${command} failed: ${reason}`, { cause: error });
    }
  };
}

function isResult(value: unknown): value is IDockerComposeResult {
  return typeof value === "object" && value !== null && "err" in value;
}

function composeCluster(compose: Compose, site: Site): Cluster {
  const onNode = (command: string) => async (node: ClusterNode) => {
    await compose(command, [node.name]);
  };
  return {
    mode: "docker",
    async start() {
      await compose("up", ["--detach"], true);
      // A paused container counts as up.
      await Promise.all(
        nodesOf(site).map(async ({ name, port }) => {
          if (!(await answersPing(port))) await compose("unpause", [name]).catch(() => undefined);
        }),
      );
    },
    async end(removeData) {
      await compose("down", removeData ? ["--volumes"] : [], true);
    },
    hasData: projectHasVolumes,
    async identify(node) {
      const { out } = await compose("ps", ["--quiet", node.name]);
      const id = out.trim().slice(0, CONTAINER_ID_LENGTH);
      return id === "" ? undefined : `container ${id}`;
    },
    async lastWords({ name }) {
      return (await compose("logs", [`--tail=${LOG_LINES_SHOWN}`, name])).out.trim();
    },
    kill: onNode("kill"),
    revive: onNode("start"),
    freeze: onNode("pause"),
    thaw: onNode("unpause"),
  };
}

/** Compose itself cannot list volumes. */
async function projectHasVolumes(): Promise<boolean> {
  const filter = `label=com.docker.compose.project=${PROJECT}`;
  const list = promisify(execFile)("docker", ["volume", "ls", "--quiet", "--filter", filter]);
  return list.then(
    ({ stdout }) => stdout.trim() !== "",
    () => true,
  );
}
