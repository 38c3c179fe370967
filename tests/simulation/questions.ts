import type { OperationScript } from "../../src/scripts/script.js";
import type { Library } from "./library.js";

/** One operation that a node is asked, as its command says it; read apart from the library's own code. */
export interface Question {
  /** What it means for a lock; `line` for what is about the waiters alone. */
  readonly kind: "acquire" | "extend" | "release" | "inspect" | "line";
  /** Those of locks. */
  readonly keys: readonly string[];
  /** The lock's; empty where it is about none. */
  readonly value: string;
  /** Of a waiter that takes, stands in line or leaves it; the time is NaN where it leaves. */
  readonly ticket: { readonly timeMs: number; readonly id: string } | undefined;
  /** Without what is asked beside it: a script's text and its arguments. */
  readonly alone: readonly string[];
}

type Scripts = Omit<Library, "Redlock" | "internalsKey">;

/** For each script: what it means, and where its arguments hold the lock's value and the ticket. */
const MEANINGS = {
  acquire: { kind: "acquire", inLine: false, value: 0 },
  extend: { kind: "extend", inLine: false, value: 0 },
  release: { kind: "release", inLine: false, value: 0 },
  inspect: { kind: "inspect", inLine: false },
  take: { kind: "acquire", inLine: true, value: 0, time: 2, id: 3 },
  handOver: { kind: "release", inLine: true, value: 0 },
  join: { kind: "line", inLine: true, time: 0, id: 1 },
  leave: { kind: "line", inLine: true, id: 0 },
  look: { kind: "line", inLine: true },
} as const satisfies Record<
  string,
  { kind: Question["kind"]; inLine: boolean; value?: number; time?: number; id?: number }
>;

type Name = keyof typeof MEANINGS;

/** The operations in a command, in their order; none in one that is about no lock. */
export function questionsIn(
  command: string,
  args: readonly string[],
  scripts: Scripts,
): Question[] {
  if (command === "set") {
    const [key = "", value = "", , , ttlMs = ""] = args;
    return [question("acquire", [key], [value, ttlMs], scripts)];
  }
  if (command !== "eval" && command !== "evalsha") return [];
  const [script, keyCount, ...rest] = args;
  const keys = rest.slice(0, Number(keyCount));
  const others = rest.slice(Number(keyCount));
  if (script === scripts.batchScript.sha1 || script === scripts.batchScript.text) {
    return inBatch(keys, JSON.parse(others[0] ?? "") as (string | number)[], scripts);
  }
  for (const { name, sha1, text } of operationScripts(scripts)) {
    if (script === sha1 || script === text) return [question(name as Name, keys, others, scripts)];
  }
  return [];
}

/** The replies to each of so many operations in one command. */
export function repliesIn(reply: unknown, count: number): unknown[] {
  return count === 1 || typeof reply !== "string" ? [reply] : (JSON.parse(reply) as unknown[]);
}

function inBatch(
  keys: readonly string[],
  batch: readonly (string | number)[],
  scripts: Scripts,
): Question[] {
  const questions: Question[] = [];
  let firstKey = 0;
  for (let at = 0; at < batch.length;) {
    const [name, keyCount, argCount] = batch.slice(at, at + 3) as [Name, number, number];
    const own = keys.slice(firstKey, firstKey + keyCount);
    const args = batch.slice(at + 3, at + 3 + argCount).map(String);
    questions.push(question(name, own, args, scripts));
    firstKey += keyCount;
    at += 3 + argCount;
  }
  return questions;
}

function question(
  name: Name,
  keys: readonly string[],
  args: readonly string[],
  scripts: Scripts,
): Question {
  const {
    kind,
    inLine,
    value,
    time,
    id,
  }: (typeof MEANINGS)[Name] & {
    value?: number;
    time?: number;
    id?: number;
  } = MEANINGS[name];
  const script = operationScripts(scripts).find((one) => one.name === name);
  return {
    kind,
    keys: inLine ? keys.filter((_, index) => index % 3 === 0) : keys,
    value: value === undefined ? "" : (args[value] ?? ""),
    ticket:
      id === undefined
        ? undefined
        : { timeMs: time === undefined ? NaN : Number(args[time]), id: args[id] ?? "" },
    alone: [script?.text ?? "", String(keys.length), ...keys, ...args],
  };
}

function operationScripts(scripts: Scripts) {
  // At run time there is more in it than the type says.
  const parts: readonly unknown[] = Object.values(scripts);
  return parts.filter(isOperationScript);
}

function isOperationScript(part: unknown): part is OperationScript {
  return typeof part === "object" && part !== null && "definition" in part;
}
