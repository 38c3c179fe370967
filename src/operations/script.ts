import { createHash } from "node:crypto";
import type { Argument, Command } from "./operation.js";

/** A Lua script and its SHA-1, by which EVALSHA runs it. */
export interface Script {
  readonly text: string;
  readonly sha1: string;
}

export function script(text: string): Script {
  return { text, sha1: createHash("sha1").update(text).digest("hex") };
}

/** The script of one operation. The batch script calls its function as well. */
export interface OperationScript extends Script {
  /** The name of its Lua function. */
  readonly name: string;
  /** The Lua definitions of the functions that it calls, and of its own. */
  readonly definitions: readonly string[];
  /** Returns the plain command that does the same; undefined if there is none for these keys. */
  readonly plain?: (
    keys: readonly string[],
    args: readonly Argument[],
  ) => Pick<Command, "command" | "args"> | undefined;
}

/** Puts `shortcut` before a script: if it can return by itself, the script's functions are not even defined. */
export function withShortcut(operation: OperationScript, shortcut: string): OperationScript {
  const { name, definitions, text } = operation;
  return { name, definitions, ...script(shortcut + text) };
}

/**
 * Makes the script of one operation.
 *
 * @param definition defines the local function `name(keys, first, last, ...)`, which works on the keys from `first` to
 *   `last` and takes the operation's arguments after them
 * @param called the definitions of the local functions that it calls
 */
export function operationScript(
  name: string,
  definition: string,
  called: readonly string[] = [],
): OperationScript {
  const definitions = [...new Set([...called, definition])];
  return {
    name,
    definitions,
    ...script(`${definitions.join("")}return ${name}(KEYS, 1, #KEYS, unpack(ARGV))\n`),
  };
}
