import type { OperationScript, Script } from "./script.js";

export type Argument = string | number;

/** A command as it is sent to a node. */
export interface Command {
  /** In lower case: ioredis lowers it several times per command, which is cheaper if it already is. */
  readonly command: string;
  readonly args: readonly Argument[];
  /** The script behind an EVALSHA, which the node may not have cached. */
  readonly script?: Script;
  /** The lock values whose keys it may set, or let live longer. */
  readonly sets: readonly string[];
}

/** Options of an operation. Each is described at the field of the same name of `Operation`. */
export interface OperationOptions {
  readonly sets?: string;
  readonly resendUndecided?: boolean;
  readonly requiresOwnValue?: boolean;
  readonly otherwise?: () => Operation;
}

const NONE: readonly string[] = [];

/** One operation on some keys of a node, such as setting them for a lock. */
export class Operation {
  readonly script: OperationScript;
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  /** The lock value whose keys it may set, or let live longer. */
  readonly sets: string | undefined;
  /** Whether it is sent again after NOSCRIPT even if its round is decided, as a release must be. */
  readonly resendUndecided: boolean;
  /** Whether it changes only keys that hold its own value, so that a node that may have forgotten locks may vote. */
  readonly requiresOwnValue: boolean;
  /** Makes the operation to send instead if the node refuses the keys, such as those of the queue. */
  readonly otherwise: (() => Operation) | undefined;
  #command: Command | undefined;
  #keyCharacters: number | undefined;

  constructor(
    script: OperationScript,
    keys: readonly string[],
    args: readonly Argument[],
    { sets, resendUndecided = false, requiresOwnValue = false, otherwise }: OperationOptions = {},
  ) {
    this.script = script;
    this.keys = keys;
    this.args = args;
    this.sets = sets;
    this.resendUndecided = resendUndecided;
    this.requiresOwnValue = requiresOwnValue;
    this.otherwise = otherwise;
  }

  /** The number of characters of all its keys together. */
  get keyCharacters(): number {
    return (this.#keyCharacters ??= this.keys.reduce((sum, { length }) => sum + length, 0));
  }

  /** The command for this operation alone. It is made once for all nodes. */
  get command(): Command {
    return (this.#command ??= this.#made());
  }

  #made(): Command {
    const { script, keys, args } = this;
    const sets = this.sets === undefined ? NONE : [this.sets];
    const plain = script.plain?.(keys, args);
    if (plain !== undefined) return { ...plain, sets };
    return { command: "evalsha", args: [script.sha1, keys.length, ...keys, ...args], script, sets };
  }
}

/** Makes the EVAL command for a node that has not cached the script. */
export function inFull({ args: [, ...args], sets }: Command, script: Script): Command {
  return { command: "eval", args: [script.text, ...args], sets };
}

export function strangeReply(reply: unknown, expected: string): TypeError {
  return new TypeError(
    `The client gave a reply of type ${typeof reply} where Redis answers ${expected}. ` +
      "Does it transform replies? Redlock needs them as Redis sends them.",
  );
}
