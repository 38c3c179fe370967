import type { Environment } from "../runtime/environment.js";
import { invalidType } from "../errors.js";
import { bunConnection, checkBunRedisClient, isBunRedisClient } from "../clients/bun.js";
import type { BunRedisClient, Client, NodeRedisClient, RedisClient } from "../clients/client.js";
import type { Connection } from "../clients/connection.js";
import type { RestartGuard } from "./restart-guard.js";
import { connectTo, ioredisConnection, isRedisClient, publicUrl } from "../clients/ioredis.js";
import { checkNodeRedisClient, nodeRedisConnection } from "../clients/node-redis.js";
import { isNodeRedisClient } from "../clients/node-redis-kinds.js";
import { Node } from "./node.js";
import type { NodeListener } from "./outage.js";

/** One independent Redis: a `redis://` or `rediss://` URL, or a client that the caller owns. */
export type NodeEntry = string | RedisClient | NodeRedisClient | BunRedisClient;

/** An entry that was checked, before anything is connected. */
export interface CheckedEntry {
  readonly client: Client;
  /** Whether the library makes and closes the connection. */
  readonly own: boolean;
  readonly connect: (environment: Environment) => Connection;
}

export function checkEntry(entry: NodeEntry, where: string): CheckedEntry {
  if (typeof entry === "string") {
    const client = Object.freeze(publicUrl(entry, where));
    return { client, own: true, connect: (environment) => connectTo(entry, environment) };
  }
  if (isRedisClient(entry)) return ofCaller(entry, ioredisConnection);
  if (isNodeRedisClient(entry)) {
    checkNodeRedisClient(entry, where);
    return ofCaller(entry, nodeRedisConnection);
  }
  if (isBunRedisClient(entry)) {
    checkBunRedisClient(where);
    const connect = (environment: Environment) => bunConnection(entry, where, environment);
    return { client: entry, own: true, connect };
  }
  throw invalidType(
    `${where} is not a Redis client that this library knows. Pass a client of ioredis (5 or later), iovalkey, ` +
      "node-redis (4 or later) or Bun, or a redis:// URL.",
  );
}

const known = new WeakMap<Environment, WeakMap<object, Connection>>();

/**
 * Returns the entry of a client that the caller owns. All Redlocks with the same client share one connection, so that
 * listeners do not pile up on the client. The environment, whose clocks it uses, is the same for all of them.
 */
function ofCaller<C extends RedisClient | NodeRedisClient>(
  client: C,
  make: (client: C, environment: Environment) => Connection,
): CheckedEntry {
  const connect = (environment: Environment): Connection => {
    let ofClients = known.get(environment);
    if (ofClients === undefined) known.set(environment, (ofClients = new WeakMap()));
    let connection = ofClients.get(client);
    if (connection === undefined) {
      connection = make(client, environment);
      ofClients.set(client, connection);
    }
    return connection;
  };
  return { client, own: false, connect };
}

/** Makes the nodes of a Redlock. Throws a TypeError that names a bad entry, before anything is connected. */
export function makeNodes(
  entries: Iterable<NodeEntry>,
  environment: Environment,
  check: typeof checkEntry,
  guard?: RestartGuard,
  listener?: NodeListener,
): { readonly node: Node; readonly own: boolean }[] {
  if (
    typeof entries !== "object" ||
    (entries as unknown) === null ||
    !(Symbol.iterator in entries)
  ) {
    throw invalidType(
      "Redlock needs an array, or another iterable, of nodes: a redis:// URL or a client for each independent Redis.",
    );
  }
  const checked = [...entries].map((entry, index) => check(entry, `nodes[${index}]`));
  if (checked.length === 0) {
    throw invalidType(
      "Redlock must be instantiated with at least one redis client. Pass one for each independent Redis, best three or five.",
    );
  }
  const firstIndexes = new Map<unknown, number>();
  for (const [index, { client }] of checked.entries()) {
    const identity = "url" in client ? client.name : client;
    const first = firstIndexes.get(identity);
    if (first !== undefined) {
      throw invalidType(
        `nodes[${index}] is the same ${"url" in client ? "server" : "client"} as nodes[${first}]. ` +
          "Each node must be an independent Redis, otherwise one server casts two votes.",
      );
    }
    firstIndexes.set(identity, index);
  }
  return checked.map(({ client, own, connect }) => ({
    node: new Node(client, connect(environment), environment, guard?.watch(), listener),
    own,
  }));
}
