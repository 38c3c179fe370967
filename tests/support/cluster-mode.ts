import { ask, type RedisServer, serveSlots, startServer, until } from "./servers.js";

/** One server in cluster mode, which serves every slot: it refuses a script whose keys lie in several. */
export async function startClusterOfOne(): Promise<RedisServer> {
  const server = await startServer({ args: ["--cluster-enabled", "yes"] });
  await serveSlots(server.port);
  await until(
    async () => (await ask(server.port, ["CLUSTER", "INFO"])).includes("cluster_state:ok"),
    10_000,
    () => "the cluster is down",
  );
  return server;
}
