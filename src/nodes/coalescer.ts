import { types } from "node:util";
import type { Environment } from "../runtime/environment.js";
import { Abstention } from "../errors.js";
import { batchOf, repliesOf } from "../operations/batch.js";
import { type Command, type Operation, inFull } from "../operations/operation.js";
import type { Script } from "../operations/script.js";
import { isReply } from "../clients/connection.js";

/** One operation for one node. */
export interface Inquiry {
  readonly operation: Operation;
  /** Whether it is dropped if it is decided before the end of the turn. */
  readonly lapses?: true;
  /** Whether a reply can still change the outcome, or the command is wanted all the same. */
  isUndecided(): boolean;
  onReply(reply: unknown): void;
  onError(error: Error): void;
}

/** Sends a command. Calls one of the two callbacks, once. */
type Send = (
  command: Command,
  onReply: (reply: unknown) => void,
  onError: (error: Error) => void,
) => void;

/** A larger batch would hold up the server's other clients. One operation alone may have more keys. */
const MOST_OPERATIONS = 256;
/** The number of keys of that many fenced, queued acquisitions of one resource each. */
const MOST_KEYS = 1024;
/** The most characters that the keys of one batch have together. */
const MOST_CHARACTERS = 100_000;

/**
 * Sends the operations that one event-loop turn has for a node as one command, in their order. An operation that is
 * alone is sent as its own plain command.
 */
export class Coalescer {
  readonly #nodeName: () => string;
  readonly #environment: Environment;
  readonly #send: Send;
  #waiting: Inquiry[] = [];
  /** Whether the node refuses batches whose keys lie in different slots of a Redis Cluster. */
  #bySlot = false;
  /** Whether the node has refused the keys of the queue, so that waiters poll there. */
  refusesQueue = false;

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
   * Sends again what the node refused before running it: in full if it had not cached the script; one by one if a single
   * operation of the batch may be the reason. Returns false if there is nothing to send again.
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
    // If operations dropped out, what is left is sent as another script, or not at all. Load this one for next time.
    if (open.length < Math.min(inquiries.length, 2)) this.#load(script);
    return true;
  }

  /** Sends the operation's alternative if the node refused its keys. */
  #askOtherwise([inquiry]: readonly Inquiry[], refusal: Error): boolean {
    const otherwise = inquiry?.operation.otherwise;
    if (inquiry === undefined || otherwise === undefined || !isAboutKeys(refusal)) return false;
    if (this.#kept([inquiry], mayBeSentAgain).length === 0) return true;
    this.#call([
      {
        operation: otherwise(),
        isUndecided: () => inquiry.isUndecided(),
        onReply: (reply) => {
          this.refusesQueue = true;
          inquiry.onReply(reply);
        },
        onError: (error) => {
          inquiry.onError(error);
        },
      },
    ]);
    return true;
  }

  /** Loads a script for the next time. */
  #load({ text }: Script): void {
    const ignore = (): void => undefined;
    this.#send({ command: "script", args: ["LOAD", text], sets: [] }, ignore, ignore);
  }
}

/** Whether a batch may have been refused because of some of its operations. */
function isAboutOne({ message }: Error): boolean {
  return /^(NOPERM|CROSSSLOT|ERR)\b/.test(message);
}

/** Whether a command was refused because of its keys. */
export function isAboutKeys({ message }: Error): boolean {
  return /^(NOPERM|CROSSSLOT)\b/.test(message);
}

function isWanted(inquiry: Inquiry): boolean {
  return inquiry.lapses !== true || inquiry.isUndecided();
}

/** An operation whose round is decided could arrive after its own release. */
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
  let index = 0;
  for (const inquiry of inquiries) {
    const reply = replies[index++];
    if (types.isNativeError(reply)) inquiry.onError(reply);
    else inquiry.onReply(reply);
  }
}

/** Splits operations into as few batches as the limits allow, in their order. */
function inCalls(inquiries: readonly Inquiry[]): readonly (readonly Inquiry[])[] {
  const calls: (readonly Inquiry[])[] = [];
  let first = 0;
  let keys = 0;
  let characters = 0;
  let index = 0;
  for (const { operation } of inquiries) {
    keys += operation.keys.length;
    characters += operation.keyCharacters;
    if (index > first && (keys > MOST_KEYS || characters > MOST_CHARACTERS)) {
      calls.push(inquiries.slice(first, index));
      first = index;
      keys = operation.keys.length;
      characters = operation.keyCharacters;
    }
    index += 1;
  }
  if (first === 0) return [inquiries];
  calls.push(inquiries.slice(first));
  return calls;
}

/** Groups by hash tag: keys of one tag share a slot. Without a tag, only equal keys are sure to. */
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
