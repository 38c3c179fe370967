import { acquireScript } from "./scripts/acquire.js";
import { extendScript } from "./scripts/extend.js";
import { inspectScript } from "./scripts/inspect.js";
import { releaseScript } from "./scripts/release.js";
import type { Script } from "./scripts/script.js";

export type Argument = string | number;

/** What is asked of a node. */
export interface Operation {
  readonly command: string;
  readonly args: readonly Argument[];
  /** The script behind an EVALSHA, which the node may not have cached. */
  readonly script?: Script;
  /** Sent in full whatever was decided meanwhile. */
  readonly always?: true;
}

/** Takes every key for `value`, or none. */
export function acquireOperation(keys: readonly string[], value: string, ttlMs: number): Operation {
  const [key, ...others] = keys;
  return key !== undefined && others.length === 0
    ? setIfAbsent(key, value, ttlMs)
    : scripted(acquireScript, keys, value, ttlMs);
}

/** Source: the Redlock description, "Correct implementation with a single instance". */
export function setIfAbsent(key: string, value: string, ttlMs: number): Operation {
  return { command: "SET", args: [key, value, "NX", "PX", ttlMs] };
}

/** Keeps every key that still holds `value` for `ttlMs` at least, or none. */
export function extendOperation(keys: readonly string[], value: string, ttlMs: number): Operation {
  return scripted(extendScript, keys, value, ttlMs);
}

/** Deletes the keys that hold `value`. */
export function releaseOperation(keys: readonly string[], value: string): Operation {
  return { ...scripted(releaseScript, keys, value), always: true };
}

/** Reads what the keys hold. */
export function inspectOperation(keys: readonly string[]): Operation {
  return scripted(inspectScript, keys);
}

function scripted(script: Script, keys: readonly string[], ...argv: Argument[]): Operation {
  return { command: "EVALSHA", args: [script.sha1, keys.length, ...keys, ...argv], script };
}

/** The same as EVAL, for a node that has not cached the script. */
export function inFull({ args: [, ...args] }: Operation, script: Script): Operation {
  return { command: "EVAL", args: [script.text, ...args] };
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
