import { execFile } from "node:child_process";
import { join } from "node:path";
import type { Site } from "../../docker/nodes.js";
import { ask } from "./servers.js";

export const root = join(import.meta.dirname, "..", "..");

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export function run(file: string, args: string[], env = process.env): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(file, args, { cwd: root, env }, (_error, out, err) => {
      resolve({ code: child.exitCode ?? -1, out, err });
    });
  });
}

/** The command itself, in a process of its own, on the ports and in the folder of `site`. */
export function cluster(site: Site, args: string[], env?: NodeJS.ProcessEnv): Promise<Outcome> {
  const script = `
    import { main } from "./docker/cluster.ts";
    process.exit(await main(${JSON.stringify(args)}, ${JSON.stringify(site)}));
  `;
  return run(
    process.execPath,
    ["--import", "tsx", "--input-type=module", "--eval", script],
    env ?? process.env,
  );
}

export async function pidOnPort(port: number): Promise<number> {
  const info = await ask(port, ["INFO", "server"]);
  return Number(/process_id:(\d+)/.exec(info)?.[1]);
}
