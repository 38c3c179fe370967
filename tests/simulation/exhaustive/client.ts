import type { Environment, Instant } from "../../../src/runtime/environment.js";
import type { Lock } from "../../../src/lock.js";
import type { NodeEntry } from "../../../src/nodes/entries.js";
import type { Redlock } from "../../../src/redlock.js";
import { Violation } from "../violation.js";
import type { Library } from "../../virtual-world/library.js";
import type { Wire } from "./wire.js";

export const RESOURCE = "r";
export const TTL_MS = 100;
const NODE_TIMEOUT_MS = 40;
export const DRIFT_MS = 3;
const EPOCH_MS = 1_000_000;
const LONG_AGO_MS = -1e15;

/** What a client does, one after the other; what needs a lock is passed over where there is none. */
export type Step =
  | { readonly does: "acquire"; readonly retryCount?: number }
  | { readonly does: "extend"; readonly ttlMs: number; readonly retryCount?: number }
  | { readonly does: "release" }
  | { readonly does: "wait"; readonly ms: number };

interface Alarm {
  readonly dueMs: number;
  readonly run: () => void;
}

/** What two clients do, and what the first has done before, undisturbed and alone. */
export interface Programs {
  readonly before: readonly Step[];
  readonly then: readonly [readonly Step[], readonly Step[]];
}

/** A process that runs a program with the library's real code, on a clock that it is given. */
export class Client {
  readonly name: string;
  readonly wires: readonly Wire[];
  /** Everything that reached it so far, which fixes what it did and will do; -1 for no node. */
  readonly history: { readonly node: number; readonly what: string }[] = [];
  /** What came of its calls. */
  outcomes = "";
  lock: Lock | undefined;
  /** It holds nothing that it was given and has not begun to give back. */
  released = true;
  ended = true;
  failure: Error | undefined;
  /** By value: when its attempt began, and the nodes whose yes arrived. */
  readonly attempts = new Map<string, { readonly sinceMs: number; readonly yes: Set<Wire> }>();
  readonly extended = new Set<Wire>();
  readonly #redlock: Redlock;
  readonly #nowMs: () => number;
  #override: Instant | undefined;
  #alarms: Alarm[] = [];
  #afterPoll: (() => void)[] = [];

  constructor(index: number, wires: readonly Wire[], nowMs: () => number, library: Library) {
    this.name = `client ${index + 1}`;
    this.wires = wires;
    this.#nowMs = nowMs;
    const checkNode = (entry: NodeEntry) => {
      const wire = wires[Number(entry)];
      if (wire === undefined) throw new Error("no such node");
      const address = { name: wire.name, url: `redis://${wire.name}` };
      return { client: address, own: true, connect: () => wire };
    };
    this.#redlock = new library.Redlock(
      wires.map((_, node) => String(node)),
      {
        nodeTimeout: NODE_TIMEOUT_MS,
        retryCount: 0,
        retryDelay: 30,
        retryJitter: 0,
        restartGuard: false,
        owner: "",
        [library.internalsKey]: { environment: this.#environment("ab".charAt(index)), checkNode },
      },
    );
  }

  async run(steps: readonly Step[]): Promise<void> {
    this.ended = false;
    try {
      for (const step of steps) this.outcomes += `${await this.#do(step)};`;
      this.ended = true;
    } catch (error) {
      this.failure = error instanceof Error ? error : new Error(String(error));
    }
  }

  /** When its first timer is due. */
  get dueMs(): number {
    return this.#alarms[0]?.dueMs ?? Infinity;
  }

  fireAlarm(): void {
    this.#alarms.shift()?.run();
  }

  /** What waits until the sockets have been read. */
  takeAfterPoll(): (() => void) | undefined {
    return this.#afterPoll.shift();
  }

  /** Until when it believes in its lock, read without its noticing; 0 where it does not. */
  get believesUntilMs(): number {
    if (this.lock === undefined) return 0;
    this.#override = { monotonicMs: 0, wallMs: LONG_AGO_MS };
    const endMs = this.lock.remaining;
    this.#override = undefined;
    return endMs;
  }

  async #do(step: Step): Promise<string> {
    switch (step.does) {
      case "wait":
        await new Promise<void>((resolve) => {
          this.#setAlarm(resolve, step.ms);
        });
        return "waited";
      case "acquire":
        return this.#settled(this.#acquire(step.retryCount ?? 0));
      case "extend":
        return this.#settled(this.#extend(step.ttlMs, step.retryCount ?? 0));
      case "release":
        if (this.lock === undefined || this.released) return "-";
        this.released = true;
        return this.#settled(this.#redlock.release(this.lock).then(() => "released"));
    }
  }

  async #acquire(retryCount: number): Promise<string> {
    const lock = await this.#redlock.acquire(RESOURCE, TTL_MS, { retryCount });
    this.lock = lock;
    this.released = false;
    const attempt = this.attempts.get(lock.value);
    if (attempt === undefined || attempt.yes.size < 2) {
      throw new Violation("quorum", `${this.name} holds ${lock.value} without a majority's votes`);
    }
    if (this.believesUntilMs > attempt.sinceMs + TTL_MS - DRIFT_MS) {
      throw new Violation("validity", `${this.name} believes in ${lock.value} for too long`);
    }
    return lock.value;
  }

  async #extend(ttlMs: number, retryCount: number): Promise<string> {
    if (this.lock === undefined) return "-";
    this.extended.clear();
    await this.#redlock.extend(this.lock, ttlMs, { retryCount });
    if (this.extended.size < 2) {
      throw new Violation("quorum", `${this.name} extended without a majority's votes`);
    }
    return "extended";
  }

  /** What a call gave; only the library's own errors may be thrown. */
  async #settled(call: Promise<string>): Promise<string> {
    try {
      return await call;
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (typeof code === "string" && code.startsWith("ERR_REDLOCK_")) return code;
      throw error;
    }
  }

  #environment(initial: string): Environment {
    return {
      now: () => this.#now(),
      monotonicMs: () => this.#now().monotonicMs,
      setTimer: (callback, delayMs) => this.#setAlarm(callback, delayMs),
      setBackgroundTimer: (callback, delayMs) => this.#setAlarm(callback, delayMs),
      clearTimer: (timer) => {
        this.#alarms = this.#alarms.filter((alarm) => alarm !== timer);
      },
      endOfTurn: (callback) => {
        process.nextTick(callback);
      },
      afterPoll: (callback) => {
        this.#afterPoll.push(callback);
      },
      random: () => 0.5,
      randomValue: () => {
        const value = `${initial}${this.attempts.size + 1}`;
        this.attempts.set(value, { sinceMs: this.#nowMs(), yes: new Set() });
        return value;
      },
    };
  }

  #now(): Instant {
    const nowMs = this.#nowMs();
    return this.#override ?? { monotonicMs: nowMs, wallMs: EPOCH_MS + nowMs };
  }

  /** In the order in which they are due, then in that in which they were set. */
  #setAlarm(run: () => void, delayMs: number): Alarm {
    const alarm = { dueMs: this.#nowMs() + Math.max(1, Math.trunc(delayMs)), run };
    const later = this.#alarms.findIndex(({ dueMs }) => dueMs > alarm.dueMs);
    this.#alarms.splice(later === -1 ? this.#alarms.length : later, 0, alarm);
    return alarm;
  }
}
