import type { OperationScript } from "../../src/operations/script.js";
import type { Library } from "./library.js";

/** One operation that a node is asked, as its command says it; read apart from the library's own code. */
export interface Question {
  /** What it means for a lock; `line` for what is about the waiters alone. */
  readonly kind: "acquire" | "confirm" | "extend" | "release" | "force" | "inspect" | "line";
  /** Those of locks. */
  readonly keys: readonly string[];
  /** Those of the locks' queues, in pairs, if it is about queues. */
  readonly queueKeys?: readonly string[];
  /** Those of the readers' sets, if it may be about readers. */
  readonly sets: readonly string[];
  /** Whether it is a reader's. */
  readonly reads: boolean;
  /** Where their fencing tokens are kept, if it is about one. */
  readonly fenceKeys: readonly string[];
  /** The lock's; empty where it is about none. */
  readonly value: string;
  /** The lock's; NaN where it says none. */
  readonly ttlMs: number;
  /** The fencing token that it proposes, as decimals, if it does. */
  readonly token: string | undefined;
  /** Of a waiter that takes, stands in line or leaves it; the time is NaN where it leaves. */
  readonly ticket: { readonly timeMs: number; readonly id: string } | undefined;
  /** Without what is asked beside it: a script's text and its arguments. */
  readonly alone: readonly string[];
}

type Scripts = Omit<Library, "Redlock" | "internalsKey">;

/** How a script's keys and arguments are laid out. */
interface Meaning {
  readonly kind: Question["kind"];
  /** The keys are in threes: lock, order, alive. */
  readonly queueKeys?: true;
  /** The keys are order, alive, and one for each slot. `slot`: the place of its number among the arguments. */
  readonly slots?: true;
  readonly slot?: number;
  /** The fences' keys follow, one for each lock. */
  readonly isFenced?: true;
  /** The readers' sets follow, one for each lock: always, or if this argument says so. */
  readonly sets?: true;
  readonly reads?: number;
  /** Whether it is always a reader's. */
  readonly isShared?: true;
  /** The place of the argument that says how many keys a lock has. */
  readonly step?: number;
  /** The place of the ticket's id among the arguments; its time is before it. Value and ttl are the first two. */
  readonly id?: number;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  acquire: { kind: "acquire" },
  acquireFenced: { kind: "acquire", isFenced: true },
  confirmFence: { kind: "confirm", isFenced: true },
  extend: { kind: "extend" },
  extendFenced: { kind: "extend", isFenced: true },
  release: { kind: "release" },
  inspect: { kind: "inspect" },
  acquireShared: { kind: "acquire", isShared: true, sets: true, step: 2 },
  extendShared: { kind: "extend", isShared: true, sets: true },
  releaseShared: { kind: "release", isShared: true, sets: true },
  take: { kind: "acquire", queueKeys: true, id: 3, reads: 7 },
  takeFenced: { kind: "acquire", queueKeys: true, isFenced: true, id: 4 },
  handOver: { kind: "release", queueKeys: true, reads: 1 },
  join: { kind: "line", queueKeys: true, id: 1, reads: 5 },
  leave: { kind: "line", queueKeys: true, id: 0, reads: 2 },
  look: { kind: "line", queueKeys: true, sets: true },
  joinPermits: { kind: "line", slots: true, id: 1 },
  takePermit: { kind: "acquire", slots: true, slot: 2, id: 4 },
};

/** The operations in a command, in their order; none in one that is about no lock. */
export function questionsIn(
  command: string,
  args: readonly string[],
  scripts: Scripts,
): Question[] {
  if (command === "set") {
    const [key = "", value = "", , , ttlMs = ""] = args;
    return [question(scripts.acquireScript, [key], [value, ttlMs])];
  }
  if (command !== "eval" && command !== "evalsha") return [];
  const [script, keyCount, ...rest] = args;
  const keys = rest.slice(0, Number(keyCount));
  const others = rest.slice(Number(keyCount));
  if (script === scripts.batchScript.sha1 || script === scripts.batchScript.text) {
    return inBatch(keys, others, scripts);
  }
  if (script === scripts.forceReleaseScript.text) return [forced(script, keys)];
  const known = operationScripts(scripts).find(
    ({ sha1, text }) => script === sha1 || script === text,
  );
  return known === undefined ? [] : [question(known, keys, others)];
}

/** It goes alone and in full. */
function forced(text: string, keys: readonly string[]): Question {
  return {
    kind: "force",
    keys: keys.slice(0, 1),
    queueKeys: keys.slice(1, 3),
    sets: keys.slice(3),
    reads: false,
    fenceKeys: [],
    value: "",
    ttlMs: NaN,
    token: undefined,
    ticket: undefined,
    alone: [text, String(keys.length), ...keys],
  };
}

/** The replies to each of so many operations in one command. */
export function repliesIn(reply: unknown, count: number): unknown[] {
  return count === 1 || typeof reply !== "string" ? [reply] : (JSON.parse(reply) as unknown[]);
}

function inBatch(keys: readonly string[], batch: readonly string[], scripts: Scripts): Question[] {
  const questions: Question[] = [];
  let firstKey = 0;
  for (let at = 0; at < batch.length;) {
    const name = batch[at];
    const [keyCount = 0, argCount = 0, count = 0] = batch.slice(at + 1, at + 4).map(Number);
    const script = operationScripts(scripts).find((one) => one.name === name);
    if (script === undefined) throw new Error(`there is no operation ${name}`);
    at += 4;
    for (let index = 0; index < count; index++) {
      const own = keys.slice(firstKey, firstKey + keyCount);
      questions.push(question(script, own, batch.slice(at, at + argCount)));
      firstKey += keyCount;
      at += argCount;
    }
  }
  return questions;
}

function question(
  { name, text }: OperationScript,
  keys: readonly string[],
  args: readonly string[],
): Question {
  const meaning = MEANINGS[name];
  if (meaning === undefined) throw new Error(`nothing is known of the operation ${name}`);
  const { kind, queueKeys, isFenced, id, step, slots, slot } = meaning;
  const reads =
    meaning.isShared === true || (meaning.reads !== undefined && args[meaning.reads] === "1");
  const hasSets = meaning.sets === true || reads;
  const keysPerLock = step === undefined ? (queueKeys === true ? 3 : 1) : Number(args[step]);
  const lockCount = keys.length / (keysPerLock + Number(isFenced === true) + Number(hasSets));
  const ofLocks = keys.slice(0, keysPerLock * lockCount);
  const isAboutLock = kind !== "line" && kind !== "inspect";
  const slotKeys = slot === undefined ? keys.slice(2) : [keys[2 + Number(args[slot])] ?? ""];
  return {
    kind,
    keys: slots === true ? slotKeys : ofLocks.filter((_, index) => index % keysPerLock === 0),
    queueKeys:
      slots === true ? keys.slice(0, 2) : ofLocks.filter((_, index) => index % keysPerLock !== 0),
    sets: hasSets ? keys.slice(ofLocks.length) : [],
    reads,
    fenceKeys: hasSets ? [] : keys.slice(ofLocks.length),
    value: isAboutLock ? (args[0] ?? "") : "",
    ttlMs: isAboutLock ? Number(args[1]) : NaN,
    token: isFenced === true ? args[2] : undefined,
    ticket:
      id === undefined
        ? undefined
        : { timeMs: id === 0 ? NaN : Number(args[id - 1]), id: args[id] ?? "" },
    alone: [text, String(keys.length), ...keys, ...args],
  };
}

function operationScripts(scripts: Scripts): OperationScript[] {
  // At run time there is more in it than the type says.
  const parts: readonly unknown[] = Object.values(scripts);
  return parts.filter(isOperationScript);
}

function isOperationScript(part: unknown): part is OperationScript {
  return typeof part === "object" && part !== null && "definitions" in part;
}
