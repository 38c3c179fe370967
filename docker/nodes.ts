// What the two ways to run the five nodes, Docker and plain processes, have in common.

import { join } from "node:path";
import { ask } from "../tests/support/servers.js";

/** Where a cluster lives: one port a node, and a folder for what plain processes keep. */
export interface Site {
  readonly ports: readonly number[];
  readonly directory: string;
}

export const defaultSite: Site = {
  ports: [6391, 6392, 6393, 6394, 6395],
  directory: join(import.meta.dirname, "..", ".cluster"),
};

export interface ClusterNode {
  readonly name: string;
  readonly port: number;
}

export function nodesOf({ ports }: Site): ClusterNode[] {
  return ports.map((port, index) => ({ name: `redis-${index + 1}`, port }));
}

export const LOG_LINES_SHOWN = 10;

export interface Cluster {
  readonly mode: "docker" | "local";
  /** Starts what does not run yet, and wakes what is frozen. */
  start(): Promise<void>;
  end(removeData: boolean): Promise<void>;
  /** Whether data of an earlier run is kept; true also where that cannot be known. */
  hasData(): Promise<boolean>;
  /** The process or container that is this node, or `undefined` where there is none. */
  identify(node: ClusterNode): Promise<string | undefined>;
  /** The last lines of the node's log. */
  lastWords(node: ClusterNode): Promise<string>;
  kill(node: ClusterNode): Promise<void>;
  revive(node: ClusterNode): Promise<void>;
  freeze(node: ClusterNode): Promise<void>;
  thaw(node: ClusterNode): Promise<void>;
}

/** A cluster that may be there: `exists` once it has a process or a container, even a stopped one. */
export interface FoundCluster {
  readonly cluster: Cluster;
  readonly exists: boolean;
}

export interface ServerInfo {
  readonly pid: number;
  readonly configFile: string;
  readonly version: string;
}

/** What the server on this port says of itself, or `undefined` where none answers. */
export async function serverInfo(port: number): Promise<ServerInfo | undefined> {
  const text = await ask(port, ["INFO", "server"]).catch(() => undefined);
  if (text === undefined) return undefined;
  const fields = new Map(
    text.split("\r\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1)];
    }),
  );
  const valkeyVersion = fields.get("valkey_version");
  return {
    pid: Number(fields.get("process_id")),
    configFile: fields.get("config_file") ?? "",
    version:
      valkeyVersion === undefined
        ? `Redis ${fields.get("redis_version") ?? "?"}`
        : `Valkey ${valkeyVersion}`,
  };
}
