import { execFile, spawn } from "node:child_process";
import { chmod, chown, mkdtemp, readdir, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { diesWithParent, ensureDebianPackage, findOnPath, freePorts, until } from "./servers.js";

const run = promisify(execFile);
const START_LIMIT_MS = 30_000;

export interface Postgres {
  /** As that of a Pool of the package pg: values for $1, $2, …, and how many rows it was about. */
  query(text: string, values?: readonly unknown[]): Promise<{ rowCount: number | null }>;
  /** The first column of the first row, as text. */
  read(text: string): Promise<string>;
  stop(): Promise<void>;
}

/** A real PostgreSQL on loopback. Installs Debian's where there is none and this process may. */
export async function startPostgres(): Promise<Postgres> {
  const bin = await ensurePostgres();
  const directory = await mkdtemp(join(tmpdir(), "redlock-quorum-postgres-"));
  const as = await serversUser();
  await chmod(directory, 0o700);
  if (as.uid !== undefined) await chown(directory, as.uid, as.gid ?? as.uid);
  const data = join(directory, "data");
  const [port = 0] = await freePorts(1);
  await run(join(bin, "initdb"), ["-D", data, "-A", "trust", "-U", "postgres", "--no-sync"], {
    ...as,
    cwd: directory,
  });
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
  const args = ["-D", data, "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])];
  const [file = "", ...words] = [...(await diesWithParent()), join(bin, "postgres"), ...args];
  const server = spawn(file, words, { ...as, cwd: directory, stdio: "ignore" });

  const psql = async (text: string): Promise<string> => {
    const connection = ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres"];
    const how = ["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text];
    return (await run(join(bin, "psql"), [...connection, ...how])).stdout.trim();
  };
  await until(
    () =>
      psql("SELECT 1").then(
        () => true,
        () => false,
      ),
    START_LIMIT_MS,
    () => "PostgreSQL does not answer",
  );
  return {
    query: async (text, values = []) => {
      const given = values.map((value) => `'${String(value).replaceAll("'", "''")}'`).join(", ");
      const said = await psql(
        values.length === 0 ? text : `PREPARE asked AS ${text}; EXECUTE asked(${given})`,
      );
      // The last word is the count in the command's tag, such as UPDATE 1.
      const count = Number(said.split(/\s/).at(-1));
      return { rowCount: Number.isNaN(count) ? null : count };
    },
    read: psql,
    stop: async () => {
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill("SIGINT");
      await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Where the programs of the newest version are. */
async function ensurePostgres(): Promise<string> {
  const folder = "/usr/lib/postgresql";
  const newest = async (): Promise<string | undefined> => {
    const versions = await readdir(folder).catch(() => []);
    const [version] = versions.sort((a, b) => Number(b) - Number(a));
    return version === undefined ? undefined : join(folder, version, "bin");
  };
  const present = await newest();
  if (present !== undefined) return present;
  const onPath = await findOnPath("initdb");
  if (onPath !== undefined) return dirname(await realpath(onPath));
  await ensureDebianPackage("postgresql");
  const installed = await newest();
  if (installed === undefined) {
    throw new Error("There is no PostgreSQL: install one (Debian: apt-get install postgresql).");
  }
  return installed;
}

/** PostgreSQL does not run as root, but as the user that Debian makes for it. */
async function serversUser(): Promise<{ uid?: number; gid?: number }> {
  if (process.getuid?.() !== 0) return {};
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (which) => Number((await run("id", [which, "postgres"])).stdout)),
  );
  return { uid: uid ?? 0, gid: gid ?? 0 };
}
