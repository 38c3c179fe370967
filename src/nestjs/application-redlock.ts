import { AsyncLocalStorage } from "node:async_hooks";
import { type BeforeApplicationShutdown, Logger, type OnApplicationShutdown } from "@nestjs/common";
import pTimeout from "p-timeout";
import { ENDLESS } from "../algorithm/lead.js";
import { type Routine, routineArguments } from "../algorithm/using.js";
import { ExecutionError, inWords, invalidType, kindOf, outOfRange } from "../errors.js";
import type { Lock } from "../lock.js";
import type { NodeEntry } from "../nodes/entries.js";
import { Redlock } from "../redlock.js";
import { offAbort, onAbort } from "../runtime/aborts.js";
import { type RedlockSettings, resolveSettings, type Settings } from "../settings.js";

/** What a Redlock of a Nest application is made from. */
export interface RedlockModuleOptions {
  /** One entry for each independent Redis: a `redis://` or `rediss://` URL, or a client. */
  readonly nodes: Iterable<NodeEntry>;
  /** Defaults for every call, as for `new Redlock`. */
  readonly settings?: RedlockSettings | undefined;
  /**
   * Ms that a shutdown waits for what runs under locks. Then the locks end and the signals abort. Default 8000, which is
   * below the 10 s that Docker grants a process.
   */
  readonly drainTimeout?: number | undefined;
  /**
   * Whether the shutdown also closes the clients among the nodes. Default false: whoever made a client closes it. The
   * connections of URLs are always closed.
   */
  readonly closeClients?: boolean | undefined;
}

/**
 * Tells which calls come from a routine of `using` or `lead`, and whether that still runs. Of all Redlocks: a routine of one
 * may need a lock of another.
 */
const flow = new AsyncLocalStorage<{ isRunning: boolean }>();

const DRAIN_TIMEOUT_MS = 8000;
/** A longer timer would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

type Resources = string | readonly string[];

/**
 * A Redlock that ends with its Nest application. The hooks are methods of the Redlock itself, so that a stub provided in
 * its place needs none.
 */
export class ApplicationRedlock
  extends Redlock
  implements BeforeApplicationShutdown, OnApplicationShutdown
{
  readonly #drainTimeoutMs: number;
  readonly #closeClients: boolean;
  readonly #shutdown = new AbortController();
  readonly #running = new Map<Promise<unknown>, Resources>();
  #closed: Promise<void> | undefined;

  constructor({ nodes, settings, drainTimeout, closeClients }: RedlockModuleOptions) {
    const drainTimeoutMs = drainTimeout ?? DRAIN_TIMEOUT_MS;
    checkDrainTimeout(drainTimeoutMs);
    super(nodes, settings);
    this.#drainTimeoutMs = drainTimeoutMs;
    this.#closeClients = closeClients ?? false;
  }

  override async acquire(resources: Resources, ttl: number, settings?: Settings): Promise<Lock> {
    return this.#untilShutdown("acquire", settings, (own) => super.acquire(resources, ttl, own));
  }

  override async tryAcquire(
    resources: Resources,
    ttl: number,
    settings?: Settings,
  ): Promise<Lock | null> {
    return this.#untilShutdown("tryAcquire", settings, (own) =>
      super.tryAcquire(resources, ttl, own),
    );
  }

  override async using<T>(
    resources: Resources,
    ttl: number,
    settingsOrRoutine: Settings | Routine<T>,
    optionalRoutine?: Routine<T>,
  ): Promise<T> {
    const [settings, routine] = routineArguments("using", settingsOrRoutine, optionalRoutine);
    return this.#untilShutdown("using", settings, (own) =>
      this.#run(resources, super.using(resources, ttl, own ?? {}, inFlow(routine))),
    );
  }

  /** The shutdown ends a campaign and, at once, the leadership. It aborts the routine's signal, and waits for the routine. */
  override async lead<T>(
    name: string,
    ttl: number,
    settingsOrRoutine: Settings | Routine<T>,
    optionalRoutine?: Routine<T>,
  ): Promise<T | undefined> {
    const [settings, routine] = routineArguments("lead", settingsOrRoutine, optionalRoutine);
    return this.#untilShutdown("lead", settings, (own) =>
      this.#run(name, super.lead(name, ttl, own ?? {}, inFlow(routine))),
    );
  }

  /**
   * Refuses new locks, ends the waiting for locks, and lets what runs under `using`, `lead` and `@Locked` end. This is the hook
   * before servers close and before the `onApplicationShutdown` in which most modules close their connections, so that
   * what still runs has its database.
   */
  async beforeApplicationShutdown(): Promise<void> {
    this.#shutdown.abort(
      new ExecutionError(
        "This Redlock gives no more locks: its Nest application is shutting down. Try again on another instance.",
        [],
        "ERR_REDLOCK_CLOSED",
      ),
    );
    if (this.#drainTimeoutMs > 0) {
      const limit = { milliseconds: this.#drainTimeoutMs, fallback: () => undefined };
      await pTimeout(this.#idle(), limit);
    }
    if (this.#running.size === 0) return;
    const names = [...this.#running.values()].flat();
    new Logger("RedlockModule").warn(
      `What runs under the locks on ${names.join(", ")} had not ended ${inWords(this.#drainTimeoutMs)} after the shutdown ` +
        "began. The locks end now, and the signals abort. Raise drainTimeout if your platform grants more.",
    );
    await this.#close();
  }

  /**
   * Closes the connections. Not earlier: requests that the server still answers may have to release locks that they
   * acquired.
   */
  async onApplicationShutdown(): Promise<void> {
    await this.#close();
  }

  async #idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running.keys());
  }

  #close(): Promise<void> {
    this.#closed ??= this.#closeClients ? this.quit() : this[Symbol.asyncDispose]();
    return this.#closed;
  }

  /** Lets the shutdown wait for what runs under a lock. */
  async #run<T>(resources: Resources, run: Promise<T>): Promise<T> {
    this.#running.set(run, resources);
    try {
      return await run;
    } finally {
      this.#running.delete(run);
    }
  }

  /** Makes a call whose waiting ends when the application shuts down, besides for the caller's own signal. */
  async #untilShutdown<T>(
    name: string,
    settings: Settings | undefined,
    call: (settings: Settings | undefined) => Promise<T>,
  ): Promise<T> {
    const isLead = name === "lead";
    const base = isLead ? { ...this.settings, ...ENDLESS } : this.settings;
    const { signal } = resolveSettings(settings, name, base);
    const shutdown = this.#shutdown.signal;
    // What runs under a lock may have to take another to come to its end. A leader has no end of its own.
    if (flow.getStore()?.isRunning === true && !isLead) return call(settings);
    if (signal === undefined) return call({ ...settings, signal: shutdown });

    const either = new AbortController();
    const abort = (): void => {
      either.abort(signal.aborted ? signal.reason : shutdown.reason);
    };
    if (signal.aborted || shutdown.aborted) abort();
    onAbort(signal, abort);
    onAbort(shutdown, abort);
    try {
      return await call({ ...settings, signal: either.signal });
    } finally {
      offAbort(signal, abort);
      offAbort(shutdown, abort);
    }
  }
}

function inFlow<T>(routine: Routine<T>): Routine<T> {
  return async (signal, lock) => {
    const state = { isRunning: true };
    try {
      return await flow.run(state, () => routine(signal, lock));
    } finally {
      state.isRunning = false;
    }
  };
}

function checkDrainTimeout(ms: unknown): void {
  const what =
    "The option drainTimeout of RedlockModule must be a number (ms; 0 to wait for nothing)";
  if (typeof ms !== "number" || Number.isNaN(ms)) {
    throw invalidType(`${what}, but is ${kindOf(ms)}.`);
  }
  if (ms < 0 || ms > LONGEST_TIMER_MS) {
    throw outOfRange(`${what} of at most ${LONGEST_TIMER_MS}, but is ${ms}.`);
  }
}
