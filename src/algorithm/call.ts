import { setMaxListeners } from "node:events";
import type { ErrorCode } from "../errors.js";
import type { Lock, LockIssuer } from "../lock.js";
import type { Node } from "../nodes/node.js";
import type { RestartGuard } from "../nodes/restart-guard.js";
import { History } from "../quorum/history.js";
import type { Question } from "../quorum/ballot.js";
import { Round } from "../quorum/round.js";
import type { Alarms } from "../runtime/alarms.js";
import { offAbort, onAbort } from "../runtime/aborts.js";
import { type Environment, type Instant, sleep } from "../runtime/environment.js";
import type { ResolvedSettings } from "../settings.js";
import type { LocalQueues } from "../waiting/local-queue.js";
import { retry } from "../waiting/retry.js";
import type { Tokens } from "./fence.js";
import { driftMs, type Term } from "./validity.js";

/** Everything that the calls of one Redlock share. */
export interface Instance {
  /** The Redlock that a lock calls to be extended or released. */
  readonly issuer: LockIssuer;
  readonly settings: ResolvedSettings;
  readonly nodes: readonly Node[];
  readonly environment: Environment;
  readonly alarms: Alarms;
  readonly guard: RestartGuard;
  readonly tokens: Tokens;
  readonly queues: LocalQueues;
  /** Aborts when the Redlock closes. Its reason is the error of every later call. */
  readonly closing: AbortSignal;
  /** The rounds that have not decided yet. */
  readonly undecided: Set<Round>;
  /** The locks under which `using` runs a routine now. */
  readonly locksInUse: Set<Lock>;
  /** Emits `error` for a vote against. */
  readonly onRefusal: (error: Error, node: Node) => void;
}

/** The keys and the ttl that a call is about. */
export interface Subject {
  readonly resources: readonly string[];
  /** The resources' keys, in their order. */
  readonly keys: readonly string[];
  readonly ttlMs: number;
}

/** One API call: its keys, its time left, its retries, and its attempts so far. */
export class Call {
  readonly instance: Instance;
  readonly resources: readonly string[];
  readonly keys: readonly string[];
  readonly ttlMs: number;
  readonly settings: ResolvedSettings;
  readonly start: Instant;
  readonly history: History;
  /** Why the last attempt failed. */
  failure: ErrorCode = "ERR_REDLOCK_QUORUM";

  constructor(instance: Instance, { resources, keys, ttlMs }: Subject, settings: ResolvedSettings) {
    this.instance = instance;
    this.resources = resources;
    this.keys = keys;
    this.ttlMs = ttlMs;
    this.settings = settings;
    this.start = instance.environment.now();
    this.history = new History(this.start.wallMs);
  }

  /** Each node's timeout. The function keeps no reference to the call, since a round keeps it as long as the lock lives. */
  get nodeTimeoutMs(): (node: Node) => number {
    return nodeTimeouts(this.settings.nodeTimeout, this.ttlMs);
  }

  get longestNodeTimeoutMs(): number {
    return Math.max(...this.instance.nodes.map(this.nodeTimeoutMs));
  }

  /** Milliseconds since the call began. */
  get elapsedMs(): number {
    return this.instance.environment.monotonicMs() - this.start.monotonicMs;
  }

  /** The signals that end waiting: the closing of the Redlock, and the caller's own signal. */
  get signals(): readonly AbortSignal[] {
    const { closing } = this.instance;
    const { signal } = this.settings;
    return signal === undefined ? [closing] : [closing, signal];
  }

  /** Throws if the Redlock is closed. */
  assertOpen(): void {
    this.instance.closing.throwIfAborted();
  }

  /** The term that a quorum grants to this call: its ttl from `since` on, minus the drift allowance. */
  term(since: Instant): Term {
    const { ttlMs } = this;
    return { since, ttlMs, driftMs: driftMs(ttlMs, this.settings.driftFactor) };
  }

  /** Asks every node. A round that is undecided after `limitMs` has failed. */
  ask(
    operation: Question["operation"],
    judge: Question["judge"],
    limitMs: number,
    refusal?: Question["refusal"],
  ): Round {
    const { nodes, guard, environment } = this.instance;
    guard.use(this.ttlMs);
    return new Round(
      {
        nodes,
        operation,
        judge,
        nodeTimeoutMs: this.nodeTimeoutMs,
        limitMs,
        refusal,
        onRefusal: this.instance.onRefusal,
      },
      environment,
    );
  }

  /** Resolves with whether a quorum voted for. The caller's signal, or closing the Redlock, ends an undecided round. */
  async decided(round: Round): Promise<boolean> {
    const { undecided, closing } = this.instance;
    const { signal } = this.settings;
    const cut = (): void => {
      round.cut();
    };
    undecided.add(round);
    if (signal !== undefined) onAbort(signal, cut);
    if (signal?.aborted === true || closing.aborted) cut();
    const granted = await round.decided();
    if (signal !== undefined) offAbort(signal, cut);
    undecided.delete(round);
    return granted;
  }

  /** Attempts once, then retries as the settings say. */
  async untilGiven<T>(
    attempt: () => Promise<T | undefined>,
    timeLeftMs: () => number,
  ): Promise<T | undefined> {
    const retries = timesOf(this.settings.retryCount);
    const signals = [this.instance.closing];
    return (await attempt()) ?? (await this.attemptAgain(attempt, retries, signals, timeLeftMs));
  }

  /**
   * Retries until an attempt succeeds, the retries are used up, or the next attempt could not start within the time
   * left.
   */
  async attemptAgain<T>(
    attempt: () => Promise<T | undefined>,
    retries: number,
    signals: readonly AbortSignal[],
    timeLeftMs: () => number,
  ): Promise<T | undefined> {
    const pause = async (): Promise<boolean> => {
      const delayMs = this.nextDelayMs();
      if (delayMs >= timeLeftMs()) return false;
      await sleep(this.instance.environment, delayMs, signals);
      return timeLeftMs() > 0;
    };
    return retry(retries, pause, attempt);
  }

  /** Milliseconds until the next attempt: `retryDelay`, plus or minus a random share of `retryJitter`. */
  nextDelayMs(): number {
    const { retryDelay, retryJitter } = this.settings;
    const jitterMs = Math.floor((this.instance.environment.random() * 2 - 1) * retryJitter);
    return Math.max(0, retryDelay + jitterMs);
  }
}

/** One call of `acquire`, `tryAcquire` or `using`. */
export class Acquisition extends Call {
  /** The keys of the fencing tokens; undefined without `fencing`. */
  readonly fenceKeys: readonly string[] | undefined;
  /** The least token that the next attempt may propose. */
  leastToken = 0;
  /** For each node that answered "held" and was inspected: the data under the key, if it is no lock. */
  readonly strangers = new Map<Node, Promise<string | undefined>>();

  constructor(
    instance: Instance,
    subject: Subject,
    settings: ResolvedSettings,
    fenceKeys: readonly string[] | undefined,
  ) {
    super(instance, subject, settings);
    this.fenceKeys = fenceKeys;
    // Many callers may share one signal, such as the one for the shutdown of the process.
    if (settings.signal instanceof EventTarget) setMaxListeners(0, settings.signal);
  }

  /** How many attempts may follow the first one. */
  get retries(): number {
    const { acquireTimeout, retryCount } = this.settings;
    if (acquireTimeout !== undefined) return acquireTimeout === 0 ? 0 : Infinity;
    return timesOf(retryCount);
  }

  /**
   * Milliseconds of `acquireTimeout` left; Infinity for a single attempt, which it does not limit. Waiting is timed by
   * the monotonic clock alone: a wall clock that jumps forward ends a lock, but does not end the waiting.
   */
  get budgetLeftMs(): number {
    const { acquireTimeout } = this.settings;
    if (acquireTimeout === undefined || acquireTimeout === 0) return Infinity;
    return acquireTimeout - this.elapsedMs;
  }

  /** Milliseconds left of the whole call, including the time it takes to find out why it failed. */
  get callLeftMs(): number {
    const { acquireTimeout, retryCount, retryDelay, retryJitter } = this.settings;
    const callMs =
      acquireTimeout === undefined
        ? (timesOf(retryCount) + 1) * (this.longestNodeTimeoutMs + retryDelay + retryJitter)
        : acquireTimeout || this.longestNodeTimeoutMs;
    return callMs - this.elapsedMs;
  }
}

function nodeTimeouts(nodeTimeout: number | undefined, ttlMs: number): (node: Node) => number {
  return (node) => nodeTimeout ?? node.timeoutMs(ttlMs);
}

/** Returns how many retries a `retryCount` allows: -1 means no limit. */
function timesOf(retryCount: number): number {
  return retryCount === -1 ? Infinity : retryCount;
}
