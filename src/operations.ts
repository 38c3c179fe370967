import { acquireScript } from "./scripts/acquire.js";
import { extendScript } from "./scripts/extend.js";
import { inspectScript } from "./scripts/inspect.js";
import { releaseScript } from "./scripts/release.js";
import type { Script } from "./scripts/script.js";

export type Argument = string | number;

/** What is asked of a node. */
export interface Operation {
  /** In lower case: ioredis lowers it several times a command, which costs nothing where it is. */
  readonly command: string;
  readonly args: readonly Argument[];
  /** The script behind an EVALSHA, which the node may not have cached. */
  readonly script?: Script;
  /** The value that it may set a key to, or let a key hold for longer. */
  readonly sets?: string;
  /** Sent in full whatever was decided meanwhile. */
  readonly always?: true;
}

/** Takes every key for `value`, or none. */
export function acquireOperation(keys: readonly string[], value: string, ttlMs: number): Operation {
  const [key] = keys;
  if (key !== undefined && keys.length === 1) return setIfAbsent(key, value, ttlMs);
  return {
    command: "evalsha",
    args: [acquireScript.sha1, keys.length, ...keys, value, ttlMs],
    script: acquireScript,
    sets: value,
  };
}

/** Source: the Redlock description, "Correct implementation with a single instance". */
export function setIfAbsent(key: string, value: string, ttlMs: number): Operation {
  return { command: "set", args: [key, value, "NX", "PX", ttlMs], sets: value };
}

/** Keeps every key that still holds `value` for `ttlMs` at least, or none. */
export function extendOperation(keys: readonly string[], value: string, ttlMs: number): Operation {
  return {
    command: "evalsha",
    args: [extendScript.sha1, keys.length, ...keys, value, ttlMs],
    script: extendScript,
    sets: value,
  };
}

/** Deletes the keys that hold `value`. */
export function releaseOperation(keys: readonly string[], value: string): Operation {
  return {
    command: "evalsha",
    args: [releaseScript.sha1, keys.length, ...keys, value],
    script: releaseScript,
    always: true,
  };
}

/** Reads what the keys hold. */
export function inspectOperation(keys: readonly string[]): Operation {
  return {
    command: "evalsha",
    args: [inspectScript.sha1, keys.length, ...keys],
    script: inspectScript,
  };
}

/** The same as EVAL, for a node that has not cached the script. */
export function inFull(operation: Operation, script: Script): Operation {
  const [, ...args] = operation.args;
  return { ...operation, command: "eval", args: [script.text, ...args] };
}

/** How many of the keys an acquire or extend was applied to. SET answers OK or null, a script a number. */
export function appliedTo(reply: unknown, keyCount: number): number {
  if (reply === "OK") return keyCount;
  if (reply === null) return 0;
  // A client set to `stringNumbers` gives integers as strings.
  const applied = typeof reply === "string" ? Number(reply) : reply;
  if (typeof applied === "number" && Number.isInteger(applied)) return applied;
  throw new TypeError(
    `The client gave a reply of type ${typeof reply} where Redis answers OK, null or an integer. ` +
      "Does it transform replies? Redlock needs them as Redis sends them.",
  );
}
