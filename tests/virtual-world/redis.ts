import { createHash } from "node:crypto";
import { compile, LuaError, LuaTable, type LuaValue } from "./lua.js";
import { general } from "./lua-values.js";

/** What a client library gives for a reply: a status or bulk string, an integer, null, a list; in a list also an error. */
export type Reply = string | number | null | ReplyError | readonly Reply[];

/** An error reply, as ioredis names it. */
export class ReplyError extends Error {
  override readonly name = "ReplyError";
}

export interface Member {
  readonly member: string;
  readonly score: number;
}

/** Never changed, but replaced. */
export interface Entry {
  readonly type: "string" | "zset" | "hash";
  /** Empty where it is no string. */
  readonly value: string;
  /** Of a sorted set, in its order. */
  readonly members: readonly Member[];
  /** Of a hash. */
  readonly fields?: ReadonlyMap<string, string>;
  /** By the server's clock; Infinity where the key has no expiry. */
  readonly expiresAtMs: number;
}

const sha1s = new Map<string, string>();

function sha1Of(text: string): string {
  let sha1 = sha1s.get(text);
  if (sha1 === undefined) {
    sha1 = createHash("sha1").update(text).digest("hex");
    sha1s.set(text, sha1);
  }
  return sha1;
}

/**
 * The part of Redis that the library meets: strings, sorted sets, hashes, expiry to the millisecond, scripts and
 * their cache. It runs the scripts that it is sent. `conformance.test.ts` holds it against a real server.
 */
export class RedisModel {
  readonly #entries = new Map<string, Entry>();
  readonly #scripts = new Map<string, string>();
  /** Counts its starts. */
  #starts = 1;
  #startedMs = 0;
  #nowMs = 0;
  /** Told of each PUBLISH; gives the number of those who received it. */
  onPublish: ((channel: string, message: string) => number) | undefined;

  /** What the key holds at this moment, by the server's clock in whole ms. */
  peek(key: string, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(key);
    // Source: Redis, keyIsExpired: a key is expired when now > when.
    return entry === undefined || nowMs > entry.expiresAtMs ? undefined : entry;
  }

  keys(nowMs: number): string[] {
    return [...this.#entries.keys()].filter((key) => this.peek(key, nowMs) !== undefined);
  }

  /** A restart: the script cache is gone, the data where it was not kept. */
  restart(withData: boolean, nowMs: number): void {
    this.#starts += 1;
    this.#startedMs = nowMs;
    this.#scripts.clear();
    if (!withData) this.#entries.clear();
  }

  /** Another server in the same state, to which somebody else listens. */
  copy(onPublish: RedisModel["onPublish"]): RedisModel {
    const copy = new RedisModel();
    copy.onPublish = onPublish;
    for (const [key, entry] of this.#entries) copy.#entries.set(key, entry);
    for (const [sha1, text] of this.#scripts) copy.#scripts.set(sha1, text);
    copy.#starts = this.#starts;
    copy.#startedMs = this.#startedMs;
    return copy;
  }

  /** Throws a ReplyError where the server answers with one. */
  execute(command: string, args: readonly string[], nowMs: number): Reply {
    this.#nowMs = nowMs;
    switch (command) {
      case "evalsha":
        return this.#evalsha(args);
      case "eval":
        return this.#eval(args[0] ?? "", args);
      case "script":
        return this.#script(args);
      case "info":
        return this.#info(args);
      case "ping":
        return "PONG";
      case "quit":
        return "OK";
      default: {
        const arity = ARITIES[command];
        if (arity === undefined) throw new ReplyError(`ERR unknown command '${command}'`);
        if (!fits(arity, args.length)) {
          throw new ReplyError(`ERR wrong number of arguments for '${command}' command`);
        }
        return this.#data(command, args);
      }
    }
  }

  #data(command: string, args: readonly string[]): Reply {
    const [key = "", value = "", ...options] = args;
    switch (command) {
      case "set":
        return this.#set(key, value, options);
      case "get":
        return this.#typed(key, "string")?.value ?? null;
      case "del":
        return args.filter((name) => this.#get(name) !== undefined && this.#entries.delete(name))
          .length;
      case "exists":
        return args.filter((name) => this.#get(name) !== undefined).length;
      case "type":
        return this.#get(key)?.type ?? "none";
      case "pttl":
        return this.#pttl(this.#get(key));
      case "pexpire":
        return this.#expire(key, this.#nowMs, value, options, command);
      case "pexpireat":
        return this.#expire(key, 0, value, options, command);
      case "persist":
        return this.#persist(key);
      case "time":
        return [String(Math.floor(this.#nowMs / 1000)), String((this.#nowMs % 1000) * 1000)];
      case "publish":
        return this.onPublish?.(key, value) ?? 0;
      case "hset":
      case "hget":
      case "hdel":
        return this.#hash(command, key, args.slice(1));
      default:
        return this.#sortedSet(command, key, args.slice(1));
    }
  }

  /** What the library reads of it. */
  #info([section = ""]: readonly string[]): string {
    if (section.toLowerCase() !== "server") throw new Error(`INFO ${section} is not written`);
    const uptimeS = Math.floor((this.#nowMs - this.#startedMs) / 1000);
    const runId = String(this.#starts).padStart(40, "0");
    return `# Server\r\nrun_id:${runId}\r\nuptime_in_seconds:${uptimeS}\r\n`;
  }

  #get(key: string): Entry | undefined {
    return this.peek(key, this.#nowMs);
  }

  #typed(key: string, type: Entry["type"]): Entry | undefined {
    const entry = this.#get(key);
    if (entry === undefined || entry.type === type) return entry;
    throw new ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value");
  }

  #pttl(entry: Entry | undefined): number {
    if (entry === undefined) return -2;
    return entry.expiresAtMs === Infinity ? -1 : entry.expiresAtMs - this.#nowMs;
  }

  #set(key: string, value: string, options: readonly string[]): Reply {
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
    const entry = this.#get(key);
    if (words.has("NX") && entry !== undefined) return null;
    if (words.has("XX") && entry === undefined) return null;
    const keptMs = words.has("KEEPTTL") ? (entry?.expiresAtMs ?? Infinity) : Infinity;
    const expiresAtMs = ttlMs === undefined ? keptMs : this.#nowMs + ttlMs;
    this.#entries.set(key, { type: "string", value, members: [], expiresAtMs });
    return "OK";
  }

  #expire(
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
    const entry = this.#get(key);
    if (entry === undefined) return 0;
    if (option === "NX" && entry.expiresAtMs !== Infinity) return 0;
    if (option === "XX" && entry.expiresAtMs === Infinity) return 0;
    if (option === "GT" && expiresAtMs <= entry.expiresAtMs) return 0;
    if (option === "LT" && expiresAtMs >= entry.expiresAtMs) return 0;
    if (expiresAtMs <= this.#nowMs) this.#entries.delete(key);
    else this.#entries.set(key, { ...entry, expiresAtMs });
    return 1;
  }

  #persist(key: string): number {
    const entry = this.#get(key);
    if (entry === undefined || entry.expiresAtMs === Infinity) return 0;
    this.#entries.set(key, { ...entry, expiresAtMs: Infinity });
    return 1;
  }

  #hash(command: string, key: string, args: readonly string[]): Reply {
    if (command === "hset" && args.length % 2 !== 0) {
      throw new ReplyError("ERR wrong number of arguments for 'hset' command");
    }
    const entry = this.#typed(key, "hash");
    const [field = ""] = args;
    if (command === "hget") return entry?.fields?.get(field) ?? null;
    const fields = new Map(entry?.fields);
    const count = fields.size;
    if (command === "hdel") {
      for (const name of args) fields.delete(name);
      if (fields.size === 0) this.#entries.delete(key);
      else if (entry !== undefined) this.#entries.set(key, { ...entry, fields });
      return count - fields.size;
    }
    for (let index = 0; index < args.length; index += 2) {
      fields.set(args[index] ?? "", args[index + 1] ?? "");
    }
    const expiresAtMs = entry?.expiresAtMs ?? Infinity;
    this.#entries.set(key, { type: "hash", value: "", members: [], fields, expiresAtMs });
    return fields.size - count;
  }

  #sortedSet(command: string, key: string, args: readonly string[]): Reply {
    const [first = "", second = ""] = args;
    switch (command) {
      case "zadd":
        return this.#zadd(key, args);
      case "zrange":
        return zrange(first, second, args.slice(2), () => this.#members(key));
      case "zremrangebyscore": {
        const isIn = scoreRange(first, second);
        const members = this.#members(key);
        return this.#keep(
          key,
          members.filter(({ score }) => !isIn(score)),
        );
      }
      case "zrem": {
        const members = this.#members(key);
        return this.#keep(
          key,
          members.filter(({ member }) => !args.includes(member)),
        );
      }
      case "zcard":
        return this.#members(key).length;
      case "zcount": {
        const isIn = scoreRange(first, second);
        return this.#members(key).filter(({ score }) => isIn(score)).length;
      }
      case "zscore": {
        const found = this.#members(key).find(({ member }) => member === first);
        return found === undefined ? null : general(found.score, 17);
      }
      case "zrank": {
        const rank = this.#members(key).findIndex(({ member }) => member === first);
        return rank === -1 ? null : rank;
      }
      default:
        throw new Error(`${command} has an arity, but is not written`);
    }
  }

  #members(key: string): readonly Member[] {
    return this.#typed(key, "zset")?.members ?? [];
  }

  /** Keeps these of the set's members, and gives how many are gone. */
  #keep(key: string, members: readonly Member[]): number {
    const entry = this.#get(key);
    if (entry === undefined) return 0;
    const gone = entry.members.length - members.length;
    if (members.length === 0) this.#entries.delete(key);
    else if (gone > 0) this.#entries.set(key, { ...entry, members });
    return gone;
  }

  #zadd(key: string, args: readonly string[]): number {
    const count = args.findIndex((word) => !/^(?:nx|xx|gt|lt|ch)$/i.test(word));
    const options = new Set(args.slice(0, count).map((word) => word.toUpperCase()));
    const pairs = args.slice(count);
    if (count === -1 || pairs.length % 2 !== 0) throw syntaxError();
    if (options.has("NX") && options.has("XX")) {
      throw new ReplyError("ERR XX and NX options at the same time are not compatible");
    }
    if (Number(options.has("NX")) + Number(options.has("GT")) + Number(options.has("LT")) > 1) {
      throw new ReplyError("ERR GT, LT, and/or NX options at the same time are not compatible");
    }
    const given = Array.from({ length: pairs.length / 2 }, (_, index) => ({
      score: float(pairs[2 * index]),
      member: pairs[2 * index + 1] ?? "",
    }));
    const scores = new Map(this.#members(key).map(({ member, score }) => [member, score]));
    let added = 0;
    let changed = 0;
    for (const { score, member } of given) {
      const old = scores.get(member);
      if (old === undefined ? options.has("XX") : options.has("NX")) continue;
      if (old !== undefined && options.has("GT") && score <= old) continue;
      if (old !== undefined && options.has("LT") && score >= old) continue;
      if (old === undefined) added += 1;
      else if (old !== score) changed += 1;
      scores.set(member, score);
    }
    if (added + changed > 0) {
      const members = Array.from(scores, ([member, score]) => ({ member, score })).sort(inOrder);
      const expiresAtMs = this.#get(key)?.expiresAtMs ?? Infinity;
      this.#entries.set(key, { type: "zset", value: "", members, expiresAtMs });
    }
    return options.has("CH") ? added + changed : added;
  }

  #script([subcommand = "", ...args]: readonly string[]): Reply {
    const [text = ""] = args;
    switch (subcommand.toUpperCase()) {
      case "FLUSH":
        this.#scripts.clear();
        return "OK";
      case "EXISTS":
        return args.map((sha1) => Number(this.#scripts.has(sha1)));
      case "LOAD":
        this.#load(text);
        return sha1Of(text);
      default:
        throw new ReplyError(`ERR unknown subcommand '${subcommand}'. Try SCRIPT HELP.`);
    }
  }

  #load(text: string): void {
    try {
      compile(text);
    } catch (error) {
      if (error instanceof LuaError) throw new ReplyError(`ERR ${error.message}`);
      throw error;
    }
    this.#scripts.set(sha1Of(text), text);
  }

  #evalsha(args: readonly string[]): Reply {
    checkKeyCount(args);
    const text = this.#scripts.get(args[0]?.toLowerCase() ?? "");
    if (text === undefined) {
      throw new ReplyError("NOSCRIPT No matching script. Please use EVAL.");
    }
    return this.#eval(text, args);
  }

  #eval(text: string, args: readonly string[]): Reply {
    const keyCount = checkKeyCount(args);
    this.#load(text);
    try {
      const [result] = compile(text)(
        LuaTable.list(args.slice(2, 2 + keyCount)),
        LuaTable.list(args.slice(2 + keyCount)),
        this.#callFromScript,
      );
      const reply = toReply(result);
      if (reply instanceof ReplyError) throw reply;
      return reply;
    } catch (error) {
      if (!(error instanceof LuaError)) throw error;
      // The server also names the script, which nobody reads here.
      const isReply = error.value instanceof LuaTable;
      throw new ReplyError(isReply ? error.message : `ERR ${error.message}`);
    }
  }

  readonly #callFromScript = (values: readonly LuaValue[], isProtected: boolean): LuaValue => {
    try {
      const [command = "", ...args] = values.map(commandText);
      const name = command.toLowerCase();
      checkFromScript(name, values.length);
      const reply = this.#data(name, args);
      // Statuses are tables in Lua, bulk strings are strings.
      if ((name === "type" || name === "set") && reply !== null) return field("ok", String(reply));
      return toLua(reply);
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      if (!isProtected) throw new LuaError(field("err", error.message));
      return field("err", error.message);
    }
  };
}

/** How many words each command has, itself included; where negative, at least. Source: COMMAND INFO. */
const ARITIES: Readonly<Record<string, number>> = {
  set: -3,
  get: 2,
  del: -2,
  exists: -2,
  type: 2,
  pttl: 2,
  pexpire: -3,
  pexpireat: -3,
  persist: 2,
  time: 1,
  publish: 3,
  hset: -4,
  hget: 3,
  hdel: -3,
  zadd: -4,
  zrange: -4,
  zremrangebyscore: 4,
  zrem: -3,
  zcard: 2,
  zcount: 4,
  zscore: 3,
  zrank: 3,
};

function fits(arity: number, argumentCount: number): boolean {
  return arity > 0 ? argumentCount + 1 === arity : argumentCount + 1 >= -arity;
}

function checkFromScript(name: string, wordCount: number): void {
  if (wordCount === 0) {
    throw new ReplyError("ERR Please specify at least one argument for this redis lib call");
  }
  const arity = ARITIES[name];
  if (arity === undefined) throw new ReplyError("ERR Unknown Redis command called from script");
  if (!fits(arity, wordCount - 1)) {
    throw new ReplyError("ERR Wrong number of args calling Redis command from script");
  }
}

function commandText(value: LuaValue): string {
  if (typeof value === "string") return value;
  // Source: Redis 7.0, luaArgsToRedisArgv: a number is written in full, other than by tostring.
  if (typeof value === "number") return general(value, 17);
  throw new ReplyError("ERR Lua redis lib command arguments must be strings or integers");
}

function checkKeyCount(args: readonly string[]): number {
  const keyCount = integer(args[1]);
  if (keyCount > args.length - 2) {
    throw new ReplyError("ERR Number of keys can't be greater than number of args");
  }
  if (keyCount < 0) throw new ReplyError("ERR Number of keys can't be negative");
  return keyCount;
}

function syntaxError(): ReplyError {
  return new ReplyError("ERR syntax error");
}

function integer(text = ""): number {
  if (/^(?:0|-?[1-9]\d*)$/.test(text) && Math.abs(Number(text)) < 2 ** 63) return Number(text);
  throw new ReplyError("ERR value is not an integer or out of range");
}

function float(text = "", message = "ERR value is not a valid float"): number {
  const infinity = /^([-+]?)inf(?:inity)?$/i.exec(text);
  if (infinity !== null) return infinity[1] === "-" ? -Infinity : Infinity;
  if (/^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i.test(text)) return Number(text);
  throw new ReplyError(message);
}

function inOrder(a: Member, b: Member): number {
  if (a.score !== b.score) return a.score - b.score;
  return a.member < b.member ? -1 : Number(a.member > b.member);
}

/** Bounds that begin with a bracket are left out. */
function scoreRange(least: string, most: string): (score: number) => boolean {
  const [from, to] = [least, most].map((bound) =>
    float(bound.replace(/^\(/, ""), "ERR min or max is not a float"),
  );
  return (score) =>
    (least.startsWith("(") ? score > Number(from) : score >= Number(from)) &&
    (most.startsWith("(") ? score < Number(to) : score <= Number(to));
}

function zrange(
  first: string,
  last: string,
  words: readonly string[],
  members: () => readonly Member[],
): Reply {
  const options = new Set<string>();
  let limit: [number, number] | undefined;
  for (let index = 0; index < words.length; index++) {
    const word = words[index]?.toUpperCase() ?? "";
    if (word === "LIMIT" && index + 2 < words.length) {
      limit = [integer(words[index + 1]), integer(words[index + 2])];
      index += 2;
    } else if (["BYSCORE", "REV", "WITHSCORES"].includes(word)) options.add(word);
    else throw syntaxError();
  }
  if (limit !== undefined && !options.has("BYSCORE")) {
    throw new ReplyError(
      "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
    );
  }
  const isReversed = options.has("REV");
  const ranged = options.has("BYSCORE")
    ? byScore(isReversed ? [last, first] : [first, last], isReversed, limit, members)
    : byRank(integer(first), integer(last), isReversed, members());
  return ranged.flatMap(({ member, score }) =>
    options.has("WITHSCORES") ? [member, general(score, 17)] : [member],
  );
}

function byScore(
  [least, most]: [string, string],
  isReversed: boolean,
  limit: [number, number] | undefined,
  members: () => readonly Member[],
): readonly Member[] {
  const isIn = scoreRange(least, most);
  const found = members().filter(({ score }) => isIn(score));
  if (isReversed) found.reverse();
  if (limit === undefined) return found;
  const [offset, count] = limit;
  if (offset < 0) return [];
  return found.slice(offset, count < 0 ? undefined : offset + count);
}

function byRank(
  first: number,
  last: number,
  isReversed: boolean,
  members: readonly Member[],
): readonly Member[] {
  const ordered = isReversed ? members.toReversed() : members;
  const from = first < 0 ? Math.max(0, ordered.length + first) : first;
  return ordered.slice(from, last < 0 ? Math.max(0, ordered.length + last + 1) : last + 1);
}

function field(name: string, value: string): LuaTable {
  const table = new LuaTable();
  table.set(name, value);
  return table;
}

function toLua(reply: Reply): LuaValue {
  if (reply === null) return false;
  if (typeof reply === "string" || typeof reply === "number") return reply;
  if (reply instanceof ReplyError) return field("err", reply.message);
  return LuaTable.list(reply.map(toLua));
}

/** Source: Redis, luaReplyToRedisReply: numbers lose their fraction, a list ends at its first nil. */
function toReply(value: LuaValue): Reply {
  if (value === undefined || value === false || typeof value === "function") return null;
  if (value === true) return 1;
  if (typeof value === "number") return Math.trunc(value) + 0;
  if (typeof value === "string") return value;
  const error = value.get("err");
  if (typeof error === "string") return new ReplyError(error);
  const status = value.get("ok");
  if (typeof status === "string") return status;
  const replies: Reply[] = [];
  for (let index = 1; value.get(index) !== undefined; index++) {
    replies.push(toReply(value.get(index)));
  }
  return replies;
}
