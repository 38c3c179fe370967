import type { Library } from "./library.js";

/** One operation that a node is asked, as its command says it; read apart from the library's own code. */
export interface Question {
  readonly kind: "acquire" | "extend" | "release" | "inspect";
  readonly keys: readonly string[];
  readonly value: string;
  /** Without what is asked beside it: a script's sha1 and its arguments. */
  readonly alone: readonly string[];
}

type Scripts = Omit<Library, "Redlock" | "internalsKey">;

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
  for (const [kind, { sha1, text }] of kindsOf(scripts)) {
    if (script === sha1 || script === text) return [question(kind, keys, others, scripts)];
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
    const [kind, keyCount, argCount] = batch.slice(at, at + 3) as [
      Question["kind"],
      number,
      number,
    ];
    const own = keys.slice(firstKey, firstKey + keyCount);
    const args = batch.slice(at + 3, at + 3 + argCount).map(String);
    questions.push(question(kind, own, args, scripts));
    firstKey += keyCount;
    at += 3 + argCount;
  }
  return questions;
}

function question(
  kind: Question["kind"],
  keys: readonly string[],
  args: readonly string[],
  scripts: Scripts,
): Question {
  const script = kindsOf(scripts).find(([name]) => name === kind)?.[1];
  const alone = [script?.text ?? "", String(keys.length), ...keys, ...args];
  return { kind, keys, value: args[0] ?? "", alone };
}

function kindsOf({ acquireScript, extendScript, releaseScript, inspectScript }: Scripts) {
  return [
    ["acquire", acquireScript],
    ["extend", extendScript],
    ["release", releaseScript],
    ["inspect", inspectScript],
  ] as const;
}
