import type { Keyspace } from "./keyspace.js";
import { expire, persist, pttl, set } from "./keys.js";
import { type Reply, ReplyError } from "./reply.js";
import { sortedSet } from "./sorted-sets.js";

/** Told of each PUBLISH; gives the number of those who received it. */
export type Publish = (channel: string, message: string) => number;

/** Executes a command that a script may call, too. */
export function executeOnData(
  keyspace: Keyspace,
  publish: Publish | undefined,
  command: string,
  args: readonly string[],
): Reply {
  const [key = "", value = "", ...options] = args;
  switch (command) {
    case "set":
      return set(keyspace, key, value, options);
    case "get":
      return keyspace.typed(key, "string")?.value ?? null;
    case "del":
      return args.filter((name) => keyspace.delete(name)).length;
    case "exists":
      return args.filter((name) => keyspace.get(name) !== undefined).length;
    case "type":
      return keyspace.get(key)?.type ?? "none";
    case "pttl":
      return pttl(keyspace, key);
    case "pexpire":
      return expire(keyspace, key, keyspace.nowMs, value, options, command);
    case "pexpireat":
      return expire(keyspace, key, 0, value, options, command);
    case "persist":
      return persist(keyspace, key);
    case "time":
      return [String(Math.floor(keyspace.nowMs / 1000)), String((keyspace.nowMs % 1000) * 1000)];
    case "publish":
      return publish?.(key, value) ?? 0;
    case "hset":
    case "hget":
    case "hdel":
      return hash(keyspace, command, key, args.slice(1));
    default:
      return sortedSet(keyspace, command, key, args.slice(1));
  }
}

function hash(keyspace: Keyspace, command: string, key: string, args: readonly string[]): Reply {
  if (command === "hset" && args.length % 2 !== 0) {
    throw new ReplyError("ERR wrong number of arguments for 'hset' command");
  }
  const entry = keyspace.typed(key, "hash");
  const [field = ""] = args;
  if (command === "hget") return entry?.fields?.get(field) ?? null;
  const fields = new Map(entry?.fields);
  const count = fields.size;
  if (command === "hdel") {
    for (const name of args) fields.delete(name);
    if (fields.size === 0) keyspace.delete(key);
    else if (entry !== undefined) keyspace.set(key, { ...entry, fields });
    return count - fields.size;
  }
  for (let index = 0; index < args.length; index += 2) {
    fields.set(args[index] ?? "", args[index + 1] ?? "");
  }
  const expiresAtMs = entry?.expiresAtMs ?? Infinity;
  keyspace.set(key, { type: "hash", value: "", members: [], fields, expiresAtMs });
  return fields.size - count;
}
