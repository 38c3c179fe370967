// Who listens on a port: so that "address in use" can say by whom.

import { execFile } from "node:child_process";
import { readdir, readFile, readlink } from "node:fs/promises";
import { promisify } from "node:util";

/** For a message: `redis-server (pid 123)`, or that it cannot be known. */
export async function portHolder(port: number): Promise<string> {
  const holder = process.platform === "linux" ? await askProc(port) : await askLsof(port);
  return holder ?? "a process that this user cannot see";
}

async function askProc(port: number): Promise<string | undefined> {
  const socketLinks = await listeningSocketLinks(port);
  if (socketLinks.size === 0) return undefined;
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    // Another user's process may not be looked into, and any may end meanwhile.
    const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const descriptor of descriptors) {
      const link = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => "");
      if (!socketLinks.has(link)) continue;
      const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "?");
      return `${name.trim()} (pid ${pid})`;
    }
  }
  return undefined;
}

async function listeningSocketLinks(port: number): Promise<Set<string>> {
  const LISTEN = "0A";
  const localPort = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const tables = ["/proc/net/tcp", "/proc/net/tcp6"].map((path) =>
    readFile(path, "utf8").catch(() => ""),
  );
  const links = new Set<string>();
  for (const line of (await Promise.all(tables)).join("\n").split("\n")) {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    if (inode !== undefined && state === LISTEN && local?.endsWith(localPort) === true) {
      links.add(`socket:[${inode}]`);
    }
  }
  return links;
}

async function askLsof(port: number): Promise<string | undefined> {
  const lsof = promisify(execFile)("lsof", ["-nP", `-iTCP:${port}`, "-sTCP:LISTEN", "-Fpc"]);
  const { stdout } = await lsof.catch(() => ({ stdout: "" }));
  const pid = /^p(.*)$/m.exec(stdout)?.[1];
  const name = /^c(.*)$/m.exec(stdout)?.[1];
  return pid === undefined || name === undefined ? undefined : `${name} (pid ${pid})`;
}
