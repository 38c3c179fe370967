import { createHash } from "node:crypto";
import type { Argument, Command } from "./operation.js";

/** A Lua script and the name under which EVALSHA knows it. */
export interface Script {
  readonly text: string;
  readonly sha1: string;
}

export function script(text: string): Script {
  return { text, sha1: createHash("sha1").update(text).digest("hex") };
}

/** A script of one operation, whose function a batch calls, too. */
export interface OperationScript extends Script {
  /** The name of its Lua function. */
  readonly name: string;
  /** The functions that it calls, and its own. */
  readonly definitions: readonly string[];
  /** The command that does the same without a script, for the keys and arguments for which there is one. */
  readonly plain?: (
    keys: readonly string[],
    args: readonly Argument[],
  ) => Pick<Command, "command" | "args"> | undefined;
}

/** The same, but what `shortcut` can answer alone does not even define what the others need. */
export function withShortcut(operation: OperationScript, shortcut: string): OperationScript {
  const { name, definitions, text } = operation;
  return { name, definitions, ...script(shortcut + text) };
}

/**
 * @param definition defines the local function `name(keys, first, last, ...)`: it is about the keys from
 *   `first` to `last`, and takes the operation's arguments after them
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
