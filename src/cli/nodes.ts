import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { Redlock, RedlockSettings } from "../index.js";
import { durationMs, interval } from "./duration.js";
import { isCompanionKey } from "../operations/companion-key.js";
import { codeOf, messageOf, wrongCall } from "./failure.js";

/** The options of every command that asks the nodes. */
export interface NodeOptions {
  readonly nodes?: string;
  readonly config?: string;
  readonly keyPrefix?: string;
  readonly nodeTimeout?: number;
}

/** What a config file may say. The options override it. */
export interface Config {
  readonly nodes?: readonly string[];
  readonly keyPrefix?: string;
  readonly owner?: string;
  readonly nodeTimeout?: number;
  readonly ttl?: number;
  readonly restartGuard?: number;
}

const SETTINGS = ["nodes", "keyPrefix", "owner", "nodeTimeout", "ttl", "restartGuard"];

export const NODES_HELP = `
The nodes are taken from --nodes, else from the config file, else from the
environment variable REDLOCK_NODES. Everybody on this machine can read a
password on a command line: put it into the file or the variable.

Config file, all of it optional:
  {
    "nodes": ["redis://:secret@10.0.0.1", "redis://:secret@10.0.0.2", …],
    "keyPrefix": "locks:", "ttl": "30s", "nodeTimeout": "1s", "owner": "api-7"
  }`;

/** Adds the options that say which nodes to ask. */
export function withNodeOptions(command: Command): Command {
  return command
    .option(
      "--nodes <urls>",
      "redis:// or rediss:// URLs, or host:port, of the independent servers, separated by commas",
    )
    .option("--config <file>", "JSON file with the nodes and settings, see below")
    .option("--key-prefix <text>", "what the Redis keys begin with, before the name")
    .option("--node-timeout <time>", "how long a node may take to reply", interval);
}

/** Reads the config file, if there is one. */
export function readConfig({ config: path }: NodeOptions): Config {
  if (path === undefined) return {};
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const why = codeOf(error) ?? messageOf(error);
    throw wrongCall(`The config file ${path} cannot be read: ${why}. Give --config another path.`);
  }
  return checkConfig(parsed(text, path), path);
}

function parsed(text: string, path: string): unknown {
  try {
    // Editors of Windows put a mark in front.
    return JSON.parse(text.replace(/^\ufeff/, ""));
  } catch {
    // Not with the parser's message, which quotes the text, and with it a password.
    throw wrongCall(
      `The config file ${path} is not JSON. Look for a missing comma or quote in it.`,
    );
  }
}

function checkConfig(json: unknown, path: string): Config {
  const isWrong = (what: string) => wrongCall(`The config file ${path} ${what}`);
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw isWrong('must be an object, such as {"nodes": ["redis://10.0.0.1"]}.');
  }
  const given = json as Record<string, unknown>;
  const other = Object.keys(given).find((name) => !SETTINGS.includes(name));
  if (other !== undefined) {
    throw isWrong(`knows no setting ${other}. The settings are ${SETTINGS.join(", ")}.`);
  }
  const { nodes, keyPrefix, owner } = given;
  if (nodes !== undefined && !isStrings(nodes)) throw isWrong("must have a list of URLs as nodes.");
  const text = (value: unknown, name: string): string | undefined => {
    if (value === undefined || typeof value === "string") return value;
    throw isWrong(`must have a text as ${name}.`);
  };
  const time = (name: string): number | undefined => {
    const value = given[name];
    const ms = typeof value === "string" ? durationMs(value) : undefined;
    if (value === undefined || ms !== undefined) return ms;
    throw isWrong(`must have a time with a unit as ${name}, such as "30s".`);
  };
  return withoutUndefined({
    nodes,
    keyPrefix: text(keyPrefix, "keyPrefix"),
    owner: text(owner, "owner"),
    nodeTimeout: time("nodeTimeout"),
    ttl: time("ttl"),
    restartGuard: time("restartGuard"),
  });
}

/** The URLs of the nodes, in the order of their precedence: option, file, environment. */
export function urlsOf(options: NodeOptions, config: Config): string[] {
  const listed = options.nodes ?? config.nodes ?? process.env["REDLOCK_NODES"] ?? "";
  // A password in the list of a file may have a comma.
  const urls = (typeof listed === "string" ? splitAtCommas(listed) : listed).filter(
    (url) => url !== "",
  );
  if (urls.length === 0) {
    throw wrongCall(
      "There are no nodes. Give them as --nodes redis://10.0.0.1,redis://10.0.0.2,redis://10.0.0.3, in a file with " +
        "--config, or in the environment variable REDLOCK_NODES.",
    );
  }
  return urls.map((url) => (url.includes("://") ? url : `redis://${url}`));
}

function splitAtCommas(text: string): string[] {
  const parts = text.split(/[\s,]+/);
  if (parts.some((part) => part.includes("@") && !part.includes("://"))) {
    throw wrongCall(
      "A node has an @ but no redis:// (its text is not shown, since it may hold a password). Write a comma in a " +
        "password as %2C, and begin each URL with redis:// or rediss://.",
    );
  }
  return parts;
}

/** Connects to the nodes. Loads the library only now, since a wrong call and a help do without. */
export async function connect(
  options: NodeOptions,
  config: Config,
  settings: RedlockSettings = {},
  names: readonly string[] = [],
): Promise<Redlock<readonly string[]>> {
  const urls = urlsOf(options, config);
  const keyPrefix = options.keyPrefix ?? config.keyPrefix;
  for (const name of names) checkName(name, keyPrefix);
  const { Redlock } = await import("../index.js");
  try {
    return new Redlock(urls, {
      keyPrefix,
      nodeTimeout: options.nodeTimeout ?? config.nodeTimeout,
      owner: config.owner,
      restartGuard: config.restartGuard,
      ...withoutUndefined(settings),
    });
  } catch (error) {
    if (codeOf(error) !== "ERR_REDLOCK_INVALID_ARGUMENT") throw error;
    const inWords = (_: string, index: string) => `Node number ${Number(index) + 1}`;
    const message = messageOf(error).replace(/nodes\[(\d+)\]/g, inWords);
    throw wrongCall(message.replace(", or a client of ioredis or node-redis", ""));
  }
}

/** Refuses what the library would refuse, too, but only after it has connected to the nodes. */
function checkName(name: string, keyPrefix = ""): void {
  if (name === "") throw wrongCall("A name is empty. Give each lock a name.");
  if (isCompanionKey(keyPrefix + name)) {
    throw wrongCall(`Redlock uses the name ${name} itself. Give the lock another name.`);
  }
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(object: T): Defined<T> {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined),
  ) as Defined<T>;
}
