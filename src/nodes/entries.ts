import type { Environment } from "../runtime/environment.js";
import { invalidType } from "../errors.js";
import type { Client, RedisClient } from "../clients/client.js";
import type { Connection } from "../clients/connection.js";
import type { RestartGuard } from "./restart-guard.js";
import { connectionOf, connectTo, isRedisClient, publicUrl } from "../clients/ioredis.js";
import { Node } from "./node.js";

/** One independent Redis: a `redis://` or `rediss://` URL, or a client that the caller owns. */
export type NodeEntry = string | RedisClient;

/** An entry that was checked, before anything is connected. */
export interface CheckedEntry {
  readonly client: Client;
  /** Whether the library makes and closes the client. */
  readonly own: boolean;
  readonly connect: (environment: Environment) => Connection;
}

export function checkEntry(entry: NodeEntry, where: string): CheckedEntry {
  if (typeof entry === "string") {
    const client = Object.freeze(publicUrl(entry, where));
    return { client, own: true, connect: (environment) => connectTo(entry, environment) };
  }
  if (isRedisClient(entry)) {
    return {
      client: entry,
      own: false,
      connect: (environment) => connectionOf(entry, environment),
    };
  }
  throw invalidType(
    `${where} is not a Redis client that this library knows: it lacks status, call, connect, quit, disconnect or on, ` +
      "which the clients of ioredis 5 and 6 have. Pass such a client, or a redis:// URL.",
  );
}

/** Makes the nodes of a Redlock. Throws a TypeError that names a bad entry, before anything is connected. */
export function makeNodes(
  entries: Iterable<NodeEntry>,
  environment: Environment,
  check: typeof checkEntry,
  guard?: RestartGuard,
): { readonly node: Node; readonly own: boolean }[] {
  if (
    typeof entries !== "object" ||
    (entries as unknown) === null ||
    !(Symbol.iterator in entries)
  ) {
    throw invalidType(
      "Redlock needs an array, or another iterable, of nodes: a redis:// URL or an ioredis client for each independent Redis.",
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
    node: new Node(client, connect(environment), environment, guard?.watch()),
    own,
  }));
}
