import { constants } from "node:os";

/** What is passed on to the command that runs under the lock. */
const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
/** What ends the waiting for the lock. The others concern only the command, which does not run yet. */
const ENDING: readonly string[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];

/** Says which signal ended the waiting. */
export class Interrupted extends Error {
  constructor(readonly signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
  }
}

/** The exit status that a shell gives a program that a signal ended. */
export function statusOfSignal(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Receives this process's signals: they end the waiting, and go to the command once it runs. */
export class Signals {
  readonly #waiting = new AbortController();
  #passOn: ((signal: NodeJS.Signals) => void) | undefined;
  readonly #listener = (signal: NodeJS.Signals): void => {
    if (this.#passOn !== undefined) this.#passOn(signal);
    else if (ENDING.includes(signal)) this.#waiting.abort(new Interrupted(signal));
  };

  constructor() {
    for (const signal of PASSED_ON) process.on(signal, this.#listener);
  }

  /** Aborts if a signal arrives before there is a command to pass it on to. */
  get waiting(): AbortSignal {
    return this.#waiting.signal;
  }

  /** Ends the waiting for another reason. */
  giveUp(reason: Error): void {
    this.#waiting.abort(reason);
  }

  passOnTo(receiver: (signal: NodeJS.Signals) => void): void {
    this.#passOn = receiver;
  }
}
