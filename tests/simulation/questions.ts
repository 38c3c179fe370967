import type { OperationScript } from "../../src/scripts/script.js";
import type { Library } from "./library.js";

/** One operation that a node is asked, as its command says it; read apart from the library's own code. */
export interface Question {
  readonly kind: "acquire" | "confirm" | "extend" | "release" | "inspect";
  /** The resources'. */
  readonly keys: readonly string[];
  /** Where their fencing tokens are kept, if it is about one. */
  readonly fenceKeys: readonly string[];
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
    return [question("acquire", [key], [value, ttlMs], scripts.acquireScript)];
  }
  if (command !== "eval" && command !== "evalsha") return [];
  const [script, keyCount, ...rest] = args;
  const keys = rest.slice(0, Number(keyCount));
  const others = rest.slice(Number(keyCount));
  if (script === scripts.batchScript.sha1 || script === scripts.batchScript.text) {
    return inBatch(keys, JSON.parse(others[0] ?? "") as (string | number)[], scripts);
  }
  for (const [kind, known] of kindsOf(scripts)) {
    if (script === known.sha1 || script === known.text) {
      return [question(kind, keys, others, known)];
    }
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
    const [name, keyCount, argCount] = batch.slice(at, at + 3) as [string, number, number];
    const own = keys.slice(firstKey, firstKey + keyCount);
    const args = batch.slice(at + 3, at + 3 + argCount).map(String);
    const [kind, script] = named(name, scripts);
    questions.push(question(kind, own, args, script));
    firstKey += keyCount;
    at += 3 + argCount;
  }
  return questions;
}

function question(
  kind: Question["kind"],
  keys: readonly string[],
  args: readonly string[],
  script: OperationScript,
): Question {
  const alone = [script.text, String(keys.length), ...keys, ...args];
  // Only what is about a token has a third argument.
  const count = args.length > 2 ? keys.length / 2 : keys.length;
  const [own, fenceKeys] = [keys.slice(0, count), keys.slice(count)];
  return { kind, keys: own, fenceKeys, value: args[0] ?? "", alone };
}

type Kind = readonly [Question["kind"], OperationScript];

function named(name: string, scripts: Scripts): Kind {
  const found = kindsOf(scripts).find(([, script]) => script.name === name);
  if (found === undefined) throw new Error(`there is no operation ${name}`);
  return found;
}

function kindsOf(scripts: Scripts): readonly Kind[] {
  return [
    ["acquire", scripts.acquireScript],
    ["acquire", scripts.acquireFencedScript],
    ["confirm", scripts.confirmFenceScript],
    ["extend", scripts.extendScript],
    ["extend", scripts.extendFencedScript],
    ["release", scripts.releaseScript],
    ["inspect", scripts.inspectScript],
  ];
}
