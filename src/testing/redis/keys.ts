import { LuaError } from "../lua/values.js";
import { integer, syntaxError } from "./arguments.js";
import type { Keyspace } from "./keyspace.js";
import { type Reply, ReplyError } from "./reply.js";

/** SET */
export function set(
  keyspace: Keyspace,
  key: string,
  value: string,
  options: readonly string[],
): Reply {
  const words = new Set<string>();
  let ttl: string | undefined;
  for (let index = 0; index < options.length; index++) {
    const word = options[index]?.toUpperCase() ?? "";
    const isTtl = word === "PX" || word === "EX";
    if (!isTtl && word !== "NX" && word !== "XX" && word !== "KEEPTTL") throw syntaxError();
    words.add(word);
    if (!isTtl) continue;
    index += 1;
    if (ttl !== undefined || options[index] === undefined) throw syntaxError();
    ttl = options[index];
  }
  if (words.has("NX") && words.has("XX")) throw syntaxError();
  if (words.has("KEEPTTL") && ttl !== undefined) throw syntaxError();
  const ttlMs = ttl === undefined ? undefined : integer(ttl) * (words.has("EX") ? 1000 : 1);
  if (ttlMs !== undefined && ttlMs <= 0) {
    throw new ReplyError("ERR invalid expire time in 'set' command");
  }
  const entry = keyspace.get(key);
  if (words.has("NX") && entry !== undefined) return null;
  if (words.has("XX") && entry === undefined) return null;
  const keptMs = words.has("KEEPTTL") ? (entry?.expiresAtMs ?? Infinity) : Infinity;
  const expiresAtMs = ttlMs === undefined ? keptMs : keyspace.nowMs + ttlMs;
  keyspace.set(key, { type: "string", value, members: [], expiresAtMs });
  return "OK";
}

/** PTTL */
export function pttl(keyspace: Keyspace, key: string): number {
  const entry = keyspace.get(key);
  if (entry === undefined) return -2;
  return entry.expiresAtMs === Infinity ? -1 : entry.expiresAtMs - keyspace.nowMs;
}

/** PEXPIRE, where it counts from now, and PEXPIREAT. */
export function expire(
  keyspace: Keyspace,
  key: string,
  fromMs: number,
  value: string,
  options: readonly string[],
  command: string,
): number {
  const [option, ...others] = options.map((word) => word.toUpperCase());
  const expiresAtMs = fromMs + integer(value);
  if (expiresAtMs >= 2 ** 63) {
    throw new ReplyError(`ERR invalid expire time in '${command}' command`);
  }
  if (option !== undefined && !["NX", "XX", "GT", "LT"].includes(option)) {
    throw new ReplyError(`ERR Unsupported option ${options[0] ?? ""}`);
  }
  if (others.length > 0) throw new LuaError("the simulated Redis takes one option of PEXPIRE");
  const entry = keyspace.get(key);
  if (entry === undefined) return 0;
  if (option === "NX" && entry.expiresAtMs !== Infinity) return 0;
  if (option === "XX" && entry.expiresAtMs === Infinity) return 0;
  if (option === "GT" && expiresAtMs <= entry.expiresAtMs) return 0;
  if (option === "LT" && expiresAtMs >= entry.expiresAtMs) return 0;
  if (expiresAtMs <= keyspace.nowMs) keyspace.delete(key);
  else keyspace.set(key, { ...entry, expiresAtMs });
  return 1;
}

/** PERSIST */
export function persist(keyspace: Keyspace, key: string): number {
  const entry = keyspace.get(key);
  if (entry === undefined || entry.expiresAtMs === Infinity) return 0;
  keyspace.set(key, { ...entry, expiresAtMs: Infinity });
  return 1;
}
