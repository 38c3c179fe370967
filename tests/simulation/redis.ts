import { createHash } from "node:crypto";
import { compile, LuaError, LuaTable, type LuaValue } from "./lua.js";

/** What a client library gives for a reply: a status or bulk string, an integer, null, a list. */
export type Reply = string | number | null | readonly Reply[];

/** An error reply, as ioredis names it. */
export class ReplyError extends Error {
  override readonly name = "ReplyError";
}

export interface Entry {
  readonly type: "string" | "list";
  readonly value: string;
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
 * The part of Redis that the library meets: SET NX PX, expiry to the millisecond, scripts and their
 * cache. It runs the scripts that it is sent. Nothing holds it against a real server yet.
 */
export class RedisModel {
  readonly #entries = new Map<string, Entry>();
  readonly #scripts = new Map<string, string>();
  #nowMs = 0;

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
  restart(withData: boolean): void {
    this.#scripts.clear();
    if (!withData) this.#entries.clear();
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
      case "ping":
        return "PONG";
      case "quit":
        return "OK";
      default:
        return this.#data(command, args);
    }
  }

  #data(command: string, args: readonly string[]): Reply {
    const [key = "", value = ""] = args;
    const entry = this.#get(key);
    switch (command) {
      case "set":
        return this.#set(key, value, args.slice(2));
      case "get":
        if (entry?.type === "list") throw wrongType();
        return entry?.value ?? null;
      case "del":
        return args.filter((name) => this.#get(name) !== undefined && this.#entries.delete(name))
          .length;
      case "exists":
        return args.filter((name) => this.#get(name) !== undefined).length;
      case "type":
        return entry?.type ?? "none";
      case "pttl":
        if (entry === undefined) return -2;
        return entry.expiresAtMs === Infinity ? -1 : entry.expiresAtMs - this.#nowMs;
      case "pexpire":
        if (entry === undefined) return 0;
        if (Number(value) <= 0) this.#entries.delete(key);
        else this.#entries.set(key, { ...entry, expiresAtMs: this.#nowMs + Number(value) });
        return 1;
      case "rpush":
        if (entry?.type === "string") throw wrongType();
        this.#entries.set(key, {
          type: "list",
          value: `${entry?.value ?? ""}x`,
          expiresAtMs: Infinity,
        });
        return entry === undefined ? 1 : entry.value.length + 1;
      default:
        throw new ReplyError(`ERR unknown command '${command}'`);
    }
  }

  #get(key: string): Entry | undefined {
    return this.peek(key, this.#nowMs);
  }

  #set(key: string, value: string, options: readonly string[]): Reply {
    let expiresAtMs = Infinity;
    let onlyIfAbsent = false;
    for (let index = 0; index < options.length; index++) {
      const option = options[index]?.toUpperCase();
      if (option === "NX") onlyIfAbsent = true;
      else if (option === "PX") {
        index += 1;
        const ttlMs = Number(options[index]);
        if (!Number.isInteger(ttlMs)) {
          throw new ReplyError("ERR value is not an integer or out of range");
        }
        if (ttlMs <= 0) throw new ReplyError("ERR invalid expire time in 'set' command");
        expiresAtMs = this.#nowMs + ttlMs;
      } else throw new ReplyError("ERR syntax error");
    }
    if (onlyIfAbsent && this.#get(key) !== undefined) return null;
    this.#entries.set(key, { type: "string", value, expiresAtMs });
    return "OK";
  }

  #script([subcommand, text = ""]: readonly string[]): Reply {
    if (subcommand?.toUpperCase() === "FLUSH") {
      this.#scripts.clear();
      return "OK";
    }
    compile(text);
    const sha1 = sha1Of(text);
    this.#scripts.set(sha1, text);
    return sha1;
  }

  #evalsha(args: readonly string[]): Reply {
    const text = this.#scripts.get(args[0] ?? "");
    if (text === undefined) {
      throw new ReplyError("NOSCRIPT No matching script. Please use EVAL.");
    }
    return this.#eval(text, args);
  }

  #eval(text: string, [, count = "0", ...rest]: readonly string[]): Reply {
    this.#scripts.set(sha1Of(text), text);
    const keyCount = Number(count);
    try {
      const result = compile(text)(
        rest.slice(0, keyCount),
        rest.slice(keyCount),
        (args, isProtected) => this.#callFromScript(args, isProtected),
      );
      return toReply(result);
    } catch (error) {
      if (error instanceof LuaError) throw new ReplyError(`ERR ${error.message}`);
      throw error;
    }
  }

  #callFromScript([command = "", ...args]: readonly string[], isProtected: boolean): LuaValue {
    const name = command.toLowerCase();
    try {
      const reply = this.#data(name, args);
      // Statuses are tables in Lua, bulk strings are strings.
      if (name === "type" || name === "set") {
        return reply === null ? false : field("ok", String(reply));
      }
      return toLua(reply);
    } catch (error) {
      if (!isProtected || !(error instanceof ReplyError)) throw error;
      return field("err", error.message);
    }
  }
}

function wrongType(): ReplyError {
  return new ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value");
}

function field(name: string, value: string): LuaTable {
  const table = new LuaTable();
  table.set(name, value);
  return table;
}

function toLua(reply: Reply): LuaValue {
  if (reply === null) return false;
  if (typeof reply === "string" || typeof reply === "number") return reply;
  return LuaTable.list(reply.map(toLua));
}

/** Source: Redis, luaReplyToRedisReply: numbers lose their fraction, a list ends at its first nil. */
function toReply(value: LuaValue): Reply {
  if (value === undefined || value === false) return null;
  if (value === true) return 1;
  if (typeof value === "number") return Math.trunc(value);
  if (typeof value === "string") return value;
  const error = value.get("err");
  if (typeof error === "string") throw new ReplyError(error);
  const status = value.get("ok");
  if (typeof status === "string") return status;
  return Array.from({ length: value.length }, (_, index) => toReply(value.get(index + 1)));
}
