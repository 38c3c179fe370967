import { createHash } from "node:crypto";
import { compile } from "../lua/translator.js";
import { general, LuaError, LuaTable, type LuaValue } from "../lua/values.js";
import { checkFromScript, checkFromClient } from "./arity.js";
import { integer } from "./arguments.js";
import { executeOnData, type Publish } from "./data.js";
import { type Entry, Keyspace } from "./keyspace.js";
import { field, type Reply, ReplyError, toLua, toReply } from "./reply.js";

/** Beside its identity: a master that keeps every write. The conformance suite compares it with this version. */
const PROPERTIES =
  "redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n";

/** Its configuration, as far as the library reads it. */
const CONFIGURATION: ReadonlyMap<string, string> = new Map([
  ["save", ""],
  ["appendfsync", "always"],
]);

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
  readonly #keyspace = new Keyspace();
  readonly #scripts = new Map<string, string>();
  /** Begins each run id. */
  readonly #identity: string;
  /** Counts its starts. */
  #starts = 1;
  #startedMs = 0;
  onPublish: Publish | undefined;

  /** @param identity hexadecimal digits that tell this server from others; several may have none */
  constructor(identity = "") {
    this.#identity = identity;
  }

  /** What the key holds at this moment, by the server's clock in whole ms. */
  peek(key: string, nowMs: number): Entry | undefined {
    return this.#keyspace.peek(key, nowMs);
  }

  keys(nowMs: number): string[] {
    return this.#keyspace.keys(nowMs);
  }

  /** A restart: the script cache is gone, the data where it was not kept. */
  restart(withData: boolean, nowMs: number): void {
    this.#starts += 1;
    this.#startedMs = nowMs;
    this.#scripts.clear();
    if (!withData) this.#keyspace.clear();
  }

  /** Another server in the same state, to which somebody else listens. */
  copy(onPublish: RedisModel["onPublish"]): RedisModel {
    const copy = new RedisModel(this.#identity);
    copy.onPublish = onPublish;
    copy.#keyspace.copyFrom(this.#keyspace);
    for (const [sha1, text] of this.#scripts) copy.#scripts.set(sha1, text);
    copy.#starts = this.#starts;
    copy.#startedMs = this.#startedMs;
    return copy;
  }

  /** Throws a ReplyError where the server answers with one. */
  execute(command: string, args: readonly string[], nowMs: number): Reply {
    this.#keyspace.nowMs = nowMs;
    switch (command) {
      case "evalsha":
        return this.#evalsha(args);
      case "eval":
        return this.#eval(args[0] ?? "", args);
      case "script":
        return this.#script(args);
      case "info":
        return this.#info(args);
      case "config":
        return configOf(args);
      case "ping":
        return "PONG";
      case "quit":
        return "OK";
      default:
        checkFromClient(command, args.length);
        return executeOnData(this.#keyspace, this.onPublish, command, args);
    }
  }

  /** What the library reads of it: the section `server`, or all. */
  #info([section = ""]: readonly string[]): string {
    const uptimeS = Math.floor((this.#keyspace.nowMs - this.#startedMs) / 1000);
    const runId = this.#identity + String(this.#starts).padStart(40 - this.#identity.length, "0");
    const server = `# Server\r\nrun_id:${runId}\r\nuptime_in_seconds:${uptimeS}\r\n`;
    switch (section.toLowerCase()) {
      case "server":
        return server;
      case "":
        return server + PROPERTIES;
      default:
        throw new ReplyError(`ERR INFO ${section} is not written`);
    }
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
      const reply = executeOnData(this.#keyspace, this.onPublish, name, args);
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

function configOf([subcommand = "", ...names]: readonly string[]): Reply {
  if (subcommand.toUpperCase() !== "GET") {
    throw new ReplyError(`ERR unknown subcommand '${subcommand}'. Try CONFIG HELP.`);
  }
  return names.flatMap((name) => {
    const value = CONFIGURATION.get(name.toLowerCase());
    return value === undefined ? [] : [name.toLowerCase(), value];
  });
}
