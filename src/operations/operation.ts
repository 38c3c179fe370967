import type { OperationScript, Script } from "./script.js";

export type Argument = string | number;

/** What is sent to a node. */
export interface Command {
  /** In lower case: ioredis lowers it several times a command, which costs nothing where it is. */
  readonly command: string;
  readonly args: readonly Argument[];
  /** The script behind an EVALSHA, which the node may not have cached. */
  readonly script?: Script;
  /** The values that it may set keys to, or let keys hold for longer. */
  readonly sets: readonly string[];
}

/** How an operation is not just asked and answered. */
export interface OperationOptions {
  readonly sets?: string;
  readonly resendUndecided?: boolean;
  readonly requiresOwnValue?: boolean;
  readonly otherwise?: () => Operation;
}

const NONE: readonly string[] = [];

/** One thing that a node is asked to do with some keys, such as to set them for a lock. */
export class Operation {
  readonly script: OperationScript;
  readonly keys: readonly string[];
  readonly args: readonly Argument[];
  /** The value that it may set a key to, or let a key hold for longer. */
  readonly sets: string | undefined;
  /** Sent again in full, where the node has not cached the script, whatever was decided meanwhile. */
  readonly resendUndecided: boolean;
  /** It finds the lock's value there, or does nothing: a node that may have forgotten others' locks may vote. */
  readonly requiresOwnValue: boolean;
  /** Makes the operation that is asked instead where the node refuses the keys, such as those of the queue. */
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

  /** How many characters its keys have together. */
  get keyCharacters(): number {
    return (this.#keyCharacters ??= this.keys.reduce((sum, { length }) => sum + length, 0));
  }

  /** It by itself, made once for all nodes. */
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

/** The same as EVAL, for a node that has not cached the script. */
export function inFull({ args: [, ...args], sets }: Command, script: Script): Command {
  return { command: "eval", args: [script.text, ...args], sets };
}

export function strangeReply(reply: unknown, expected: string): TypeError {
  return new TypeError(
    `The client gave a reply of type ${typeof reply} where Redis answers ${expected}. ` +
      "Does it transform replies? Redlock needs them as Redis sends them.",
  );
}
