import { types } from "node:util";
import type { Environment } from "../runtime/environment.js";
import { Abstention } from "../errors.js";
import { batchOf, repliesOf } from "../operations/batch.js";
import { type Command, type Operation, inFull } from "../operations/operation.js";
import type { Script } from "../operations/script.js";
import { isReply } from "../clients/connection.js";

/** One operation asked of one node. */
export interface Inquiry {
  readonly operation: Operation;
  /** Not sent at all where it is decided by the end of the turn. */
  readonly lapses?: true;
  /** Whether an answer may still change its outcome. */
  isUndecided(): boolean;
  onReply(reply: unknown): void;
  onError(error: Error): void;
}

/** Sends a command; one of the two is called, once. */
type Send = (
  command: Command,
  onReply: (reply: unknown) => void,
  onError: (error: Error) => void,
) => void;

/** A call of more would hold up the server for others. One operation by itself may have more keys. */
const MOST_OPERATIONS = 256;
/** As many as so many operations on one resource have that take fenced locks in line. */
const MOST_KEYS = 1024;
/** In all keys of a call. */
const MOST_CHARACTERS = 100_000;

/**
 * Brings the operations that one node is asked in a turn of the event loop together in one call, in their
 * order. One that is alone goes as its own plain command.
 */
export class Coalescer {
  readonly #nodeName: () => string;
  readonly #environment: Environment;
  readonly #send: Send;
  #waiting: Inquiry[] = [];
  /** The node refuses calls whose keys lie in different slots of a Cluster. */
  #bySlot = false;

  constructor(nodeName: () => string, send: Send, environment: Environment) {
    this.#nodeName = nodeName;
    this.#send = send;
    this.#environment = environment;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  add(inquiry: Inquiry): void {
    const count = this.#waiting.push(inquiry);
    if (count === 1) this.#environment.endOfTurn(this.#flush);
    else if (count === MOST_OPERATIONS) this.#flush();
  }

  readonly #flush = (): void => {
    if (this.isEmpty) return;
    const inquiries = this.#waiting;
    this.#waiting = [];
    const open = this.#kept(inquiries, isWanted);
    if (open.length < 2) {
      this.#call(open);
      return;
    }
    for (const group of this.#bySlot ? groupedByTag(open) : [open]) {
      for (const call of inCalls(group)) this.#call(call);
    }
  };

  #kept(inquiries: readonly Inquiry[], isKept: (inquiry: Inquiry) => boolean): readonly Inquiry[] {
    if (inquiries.every(isKept)) return inquiries;
    for (const inquiry of inquiries) {
      if (!isKept(inquiry)) inquiry.onError(new Abstention(this.#nodeName()));
    }
    return inquiries.filter(isKept);
  }

  #call(inquiries: readonly Inquiry[], full = false): void {
    const [first] = inquiries;
    if (first === undefined) return;
    const isAlone = inquiries.length === 1;
    const command = isAlone
      ? first.operation.command
      : batchOf(inquiries.map(({ operation }) => operation));
    this.#send(
      full && command.script !== undefined ? inFull(command, command.script) : command,
      (reply) => {
        if (isAlone) first.onReply(reply);
        else deliver(inquiries, reply);
      },
      (error) => {
        if (!this.#sendAgain(inquiries, command, error)) {
          for (const inquiry of inquiries) inquiry.onError(error);
        }
      },
    );
  }

  /**
   * A call that was refused before it ran is sent once more: in full where the node had not cached the
   * script, or operation by operation where one of a batch may have been the reason.
   */
  #sendAgain(inquiries: readonly Inquiry[], { script }: Command, error: Error): boolean {
    if (!isReply(error)) return false;
    const isUncached = script !== undefined && error.message.startsWith("NOSCRIPT");
    if (!isUncached && inquiries.length === 1) return this.#askOtherwise(inquiries, error);
    if (!isUncached && !isAboutOne(error)) return false;
    if (error.message.startsWith("CROSSSLOT")) this.#bySlot = true;
    const open = this.#kept(inquiries, mayBeSentAgain);
    if (!isUncached) {
      for (const inquiry of open) this.#call([inquiry]);
      return true;
    }
    this.#call(open, true);
    // What is left of a batch goes as another script, or not at all.
    if (open.length < Math.min(inquiries.length, 2)) this.#load(script);
    return true;
  }

  /** What is refused for its keys may be asked with others. */
  #askOtherwise([inquiry]: readonly Inquiry[], refusal: Error): boolean {
    const otherwise = inquiry?.operation.otherwise;
    if (inquiry === undefined || otherwise === undefined || !isAboutKeys(refusal)) return false;
    if (this.#kept([inquiry], mayBeSentAgain).length === 0) return true;
    this.#call([
      {
        operation: otherwise(),
        isUndecided: () => inquiry.isUndecided(),
        onReply: (reply) => {
          inquiry.onReply(reply);
        },
        onError: (error) => {
          inquiry.onError(error);
        },
      },
    ]);
    return true;
  }

  /** For the next time. */
  #load({ text }: Script): void {
    const ignore = (): void => undefined;
    this.#send({ command: "script", args: ["LOAD", text], sets: [] }, ignore, ignore);
  }
}

/** Whether a batch was refused for what concerns only some of its operations. */
function isAboutOne({ message }: Error): boolean {
  return /^(NOPERM|CROSSSLOT|ERR)\b/.test(message);
}

/** Whether a call was refused for its keys. */
export function isAboutKeys({ message }: Error): boolean {
  return /^(NOPERM|CROSSSLOT)\b/.test(message);
}

function isWanted(inquiry: Inquiry): boolean {
  return inquiry.lapses !== true || inquiry.isUndecided();
}

/** Later it could arrive behind its own release. */
function mayBeSentAgain(inquiry: Inquiry): boolean {
  return inquiry.operation.resendUndecided || inquiry.isUndecided();
}

function deliver(inquiries: readonly Inquiry[], batchReply: unknown): void {
  let replies: unknown[];
  try {
    replies = repliesOf(batchReply);
  } catch (error) {
    replies = inquiries.map(() => error);
  }
  for (const [index, inquiry] of inquiries.entries()) {
    const reply = replies[index];
    if (types.isNativeError(reply)) inquiry.onError(reply);
    else inquiry.onReply(reply);
  }
}

/** As few calls as can be, in the order of the operations. */
function inCalls(inquiries: readonly Inquiry[]): readonly (readonly Inquiry[])[] {
  const calls: (readonly Inquiry[])[] = [];
  let first = 0;
  let keys = 0;
  let characters = 0;
  for (const [index, { operation }] of inquiries.entries()) {
    keys += operation.keys.length;
    characters += operation.keyCharacters;
    if (index === first || (keys <= MOST_KEYS && characters <= MOST_CHARACTERS)) continue;
    calls.push(inquiries.slice(first, index));
    first = index;
    keys = operation.keys.length;
    characters = operation.keyCharacters;
  }
  calls.push(first === 0 ? inquiries : inquiries.slice(first));
  return calls;
}

/** Keys of one hash tag share a slot; without a tag, only a key and itself surely do. */
function groupedByTag(inquiries: readonly Inquiry[]): Iterable<readonly Inquiry[]> {
  const groups = new Map<string, Inquiry[]>();
  for (const inquiry of inquiries) {
    const [key = ""] = inquiry.operation.keys;
    const tag = /^[^{]*\{([^}]+)\}/.exec(key)?.[1] ?? key;
    const group = groups.get(tag);
    if (group === undefined) groups.set(tag, [inquiry]);
    else group.push(inquiry);
  }
  return groups.values();
}
