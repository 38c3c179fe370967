import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  answersPing,
  ask,
  diesWithParent,
  ensureServerBinary,
  freePorts,
  type RedisServer,
  startServer,
  until,
} from "./servers.js";

/** A master and its replica, watched by a Sentinel of their own under the name `locks`. */
export interface SentinelGroup {
  readonly sentinelPort: number;
  readonly master: RedisServer;
  readonly replica: RedisServer;
  /** Makes the replica the master, and waits until it is. */
  failOver(): Promise<void>;
  stop(): Promise<void>;
}

export function startSentinels(count: number): Promise<SentinelGroup[]> {
  return Promise.all(Array.from({ length: count }, startGroup));
}

async function startGroup(): Promise<SentinelGroup> {
  const [master, directory, [sentinelPort = 0]] = await Promise.all([
    startServer(),
    mkdtemp(join(tmpdir(), "redlock-quorum-sentinel-")),
    freePorts(1),
  ]);
  const replica = await startServer({ args: ["--replicaof", "127.0.0.1", String(master.port)] });
  await until(
    async () => (await ask(replica.port, ["INFO", "replication"])).includes("link_status:up"),
    10_000,
    () => "the replica has no link to its master",
  );
  const file = join(directory, "sentinel.conf");
  const monitor = `sentinel monitor locks 127.0.0.1 ${master.port} 1`;
  await writeFile(file, `port ${sentinelPort}\ndir ${directory}\n${monitor}\n`);
  const [program, ...args] = [
    ...(await diesWithParent()),
    await ensureServerBinary(),
    file,
    "--sentinel",
  ];
  const sentinel = spawn(program, args, { stdio: "ignore" });
  const onSentinel = (...command: string[]): Promise<string> => ask(sentinelPort, command);
  await until(
    () => answersPing(sentinelPort),
    10_000,
    () => "a Sentinel does not answer",
  );
  await until(
    async () => /\bslaves=1\b/.test(await onSentinel("INFO", "sentinel")),
    20_000,
    () => "the Sentinel knows no replica",
  );
  return {
    sentinelPort,
    master,
    replica,
    failOver: async () => {
      // It refuses where it has not yet asked the replica how it is.
      await until(
        async () => (await onSentinel("SENTINEL", "FAILOVER", "locks").catch(String)) === "OK",
        20_000,
        () => "the Sentinel begins no failover",
      );
      // The Sentinel closes every connection to a server that it makes the master, this one as well.
      const role = (): Promise<string> =>
        ask(replica.port, ["INFO", "replication"]).catch(() => "no answer");
      await until(
        async () => (await role()).includes("role:master"),
        30_000,
        () => "the replica is no master",
      );
    },
    stop: async () => {
      sentinel.kill("SIGKILL");
      await once(sentinel, "exit");
      await Promise.all([master.stop(), replica.stop()]);
      await rm(directory, { recursive: true });
    },
  };
}
