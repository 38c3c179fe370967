import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { isatty } from "node:tty";
import type { Lock } from "../index.js";
import { Descendants } from "./descendants.js";
import { codeOf, complain, EXIT, Failure, messageOf } from "./failure.js";
import { statusOfSignal } from "./signals.js";

/** The time left is read at least this often: the wall clock may have jumped, or the machine was suspended. */
const LONGEST_CHECK_MS = 200;

/** How long before the end of the validity SIGKILL comes, at most. On a busy machine, a timer was 80 ms late. */
const LONGEST_HEAD_START_MS = 100;

/** How often it is looked for what the command has started. What another user's process starts has no end. */
const MOST_LOOKS = 5;

/** How a command ended. */
export interface Ending {
  /** The exit status that stands for it. */
  readonly status: number;
  /** Why the lock was lost, or was about to be lost, before the command had ended. */
  readonly loss?: string;
}

/**
 * Runs a command under a lock. If the lock is not extended in time, the command gets SIGTERM `graceMs` before the validity
 * ends, and SIGKILL just before its end.
 */
export class GuardedCommand {
  readonly #lock: Lock;
  readonly #graceMs: number;
  readonly #headStartMs: number;
  readonly #child: ChildProcess;
  /** Whether the command has a process group of its own. */
  readonly #isGroup = !isOnTerminal();
  /** What it has started, and has left its process group: the command of another redlock, for one, or of timeout. */
  readonly #descendants = new Descendants();
  readonly #onLost = (): void => {
    this.#isLate = true;
    this.#end();
  };
  /** Ctrl-Z stops only this process, since a group of its own is not the shell's job. Nobody would extend the lock. */
  readonly #stop = (): void => {
    this.#isStopped = this.#kill("SIGSTOP");
    if (this.#isStopped) process.kill(process.pid, "SIGSTOP");
  };
  readonly #goOn = (): void => {
    clearTimeout(this.#timer);
    // The lock may have ended meanwhile.
    this.#check();
    if (this.#isStopped) this.#kill("SIGCONT");
    this.#isStopped = false;
  };
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;
  /** Whether the command was signalled because of the lock. */
  #isLate = false;
  #isKilledEarly = false;
  /** Set if the command runs as another user, so that this one may not signal it. */
  #isOutOfReach = false;
  #giveUp = (): void => undefined;

  constructor(
    lock: Lock,
    graceMs: number,
    [file = "", ...args]: readonly string[],
    env: NodeJS.ProcessEnv,
  ) {
    this.#lock = lock;
    this.#graceMs = graceMs;
    this.#headStartMs = Math.min(lock.ttl / 50, LONGEST_HEAD_START_MS, graceMs / 2);
    // Before the command runs: it must not go on while this process is stopped.
    if (this.#isGroup) process.on("SIGTSTP", this.#stop).on("SIGCONT", this.#goOn);
    // A group of its own, so that a loss also ends what a script has started. On a terminal, the command stays in the
    // foreground, where Ctrl-C and Ctrl-Z reach it together with this process.
    this.#child = start(file, args, { stdio: "inherit", env, detached: this.#isGroup });
    this.#check();
    lock.signal.addEventListener("abort", this.#onLost);
    if (lock.signal.aborted) this.#onLost();
  }

  /** Passes a signal on to the command. */
  pass(signal: NodeJS.Signals): void {
    // The terminal has sent these to the command itself.
    if (!this.#isGroup && (signal === "SIGINT" || signal === "SIGQUIT")) return;
    this.#kill(signal);
  }

  /** Resolves when the command has ended. Rejects with a Failure if it cannot be started. */
  async ended(): Promise<Ending> {
    const status = await new Promise<number>((resolve, reject) => {
      this.#child.once("error", (error) => {
        reject(notStarted(this.#child.spawnfile, error));
      });
      this.#child.once("exit", (code, signal) => {
        resolve(signal === null ? (code ?? 0) : statusOfSignal(signal));
      });
      this.#giveUp = () => {
        // It runs on, and must not keep this process alive.
        this.#child.unref();
        resolve(EXIT.lost);
      };
      if (this.#isOutOfReach) this.#giveUp();
    }).finally(() => {
      clearTimeout(this.#timer);
      process.off("SIGTSTP", this.#stop).off("SIGCONT", this.#goOn);
      this.#lock.signal.removeEventListener("abort", this.#onLost);
    });
    if (this.#isKilledEarly) await this.#untilLost();
    const isLost = !this.#lock.valid;
    if (!isLost && !this.#isLate) return { status };
    // What the command leaves behind is no longer covered by the lock.
    if (!this.#isOutOfReach) this.#end();
    const why = this.#lock.signal.error?.message;
    return { status: EXIT.lost, loss: why ?? "The nodes did not extend the lock in time." };
  }

  readonly #check = (): void => {
    const leftMs = this.#lock.remaining;
    if (leftMs <= this.#graceMs && !this.#isLate) {
      this.#isLate = true;
      // What it leaves behind, if it ends now, can be found only before.
      this.#lookAround();
      this.#kill("SIGTERM");
    }
    if (leftMs <= this.#headStartMs) {
      this.#isKilledEarly = true;
      this.#end();
      return;
    }
    const nextMs = this.#isLate ? this.#headStartMs : this.#graceMs;
    const wakeMs = Math.min(Math.max(1, leftMs - nextMs), LONGEST_CHECK_MS);
    this.#timer = setTimeout(this.#check, wakeMs);
  };

  /** The loss is a moment away, and says which nodes did not extend the lock. */
  async #untilLost(): Promise<void> {
    const { signal } = this.#lock;
    if (signal.aborted) return;
    const limit = AbortSignal.timeout(Math.ceil(this.#headStartMs));
    await once(signal, "abort", { signal: limit }).catch(() => undefined);
  }

  /** Kills the command and all that it has started. */
  #end(): void {
    // Stopped, they start nothing more while this looks for what they have started until then.
    this.#send("SIGSTOP");
    let others: readonly number[] = [];
    for (let looks = 0, count = -1; looks < MOST_LOOKS && count < others.length; looks++) {
      count = others.length;
      others = this.#lookAround();
      sendAll(others, "SIGSTOP");
    }
    this.#kill("SIGKILL");
    sendAll(others, "SIGKILL");
  }

  #lookAround(): readonly number[] {
    const { pid } = this.#child;
    return pid === undefined ? [] : this.#descendants.of(pid);
  }

  /** Returns whether the command was sent the signal. */
  #kill(signal: NodeJS.Signals): boolean {
    const code = this.#send(signal);
    if (code === "EPERM") this.#missed(signal);
    return code === undefined;
  }

  /** Returns why the command was not sent the signal. */
  #send(signal: NodeJS.Signals): string | undefined {
    const { pid, exitCode, signalCode } = this.#child;
    const hasEnded = exitCode !== null || signalCode !== null;
    // Alone, its id may be that of another process by now.
    if (pid === undefined || (hasEnded && !this.#isGroup)) return "ESRCH";
    try {
      process.kill(this.#isGroup ? -pid : pid, signal);
      return undefined;
    } catch (error) {
      const code = codeOf(error);
      if (code === "EPERM" || code === "ESRCH") return code;
      throw error;
    }
  }

  /** A command of another user, as with sudo, cannot be signalled. If it had to be killed, nothing can be done for it. */
  #missed(signal: NodeJS.Signals): void {
    const { spawnfile } = this.#child;
    complain(`${spawnfile} runs as another user, and may not be sent ${signal}. End it yourself.`);
    if (signal !== "SIGKILL") return;
    this.#isOutOfReach = true;
    this.#giveUp();
  }
}

function sendAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has just ended, or is another user's.
    }
  }
}

function isOnTerminal(): boolean {
  return [0, 1, 2].some((descriptor) => isatty(descriptor));
}

/** Starts a command. Node throws some errors at once, and emits the others. */
function start(...[file, args, options]: Parameters<typeof spawn>): ChildProcess {
  try {
    return spawn(file, args, options);
  } catch (error) {
    throw notStarted(file, error);
  }
}

function notStarted(file: string, error: unknown): Failure {
  const code = codeOf(error);
  if (code === "ENOENT" || code === "ENOTDIR") {
    return new Failure(
      EXIT.notFound,
      `There is no command ${file}. Give its path, or look at PATH.`,
    );
  }
  if (code === "EACCES") {
    return new Failure(
      EXIT.notExecutable,
      `${file} may not be executed. Make it executable, or run it with its interpreter.`,
    );
  }
  return new Failure(
    EXIT.notExecutable,
    `${file} cannot be started: ${messageOf(error)}. Correct the command.`,
  );
}
