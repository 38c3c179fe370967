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

/** What all calls of one Redlock share. */
export interface Instance {
  /** Whose locks these are. */
  readonly issuer: LockIssuer;
  readonly settings: ResolvedSettings;
  readonly nodes: readonly Node[];
  readonly environment: Environment;
  readonly alarms: Alarms;
  readonly guard: RestartGuard;
  readonly tokens: Tokens;
  readonly queues: LocalQueues;
  /** Aborts when the Redlock is closed, with the error for every call since. */
  readonly closing: AbortSignal;
  /** The rounds of attempts under way. */
  readonly undecided: Set<Round>;
  /** The locks of `using` calls whose routine runs. */
  readonly locksInUse: Set<Lock>;
  /** Emits `error` for a vote against. */
  readonly onRefusal: (error: Error, node: Node) => void;
}

/** What a call is about. */
export interface Subject {
  readonly resources: readonly string[];
  /** The resources' keys, in their order. */
  readonly keys: readonly string[];
  readonly ttlMs: number;
}

/** One call of the API, and what came of it so far. */
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

  /** What each node has to answer in. A round keeps this function for as long as a lock lives: it keeps no call. */
  get nodeTimeoutMs(): (node: Node) => number {
    return nodeTimeouts(this.settings.nodeTimeout, this.ttlMs);
  }

  get longestNodeTimeoutMs(): number {
    return Math.max(...this.instance.nodes.map(this.nodeTimeoutMs));
  }

  /** Ms since the call began. */
  get elapsedMs(): number {
    return this.instance.environment.monotonicMs() - this.start.monotonicMs;
  }

  /** What ends a waiting: the end of the Redlock, and the caller's signal. */
  get signals(): readonly AbortSignal[] {
    const { closing } = this.instance;
    const { signal } = this.settings;
    return signal === undefined ? [closing] : [closing, signal];
  }

  /** Throws the error for a closed Redlock. */
  assertOpen(): void {
    this.instance.closing.throwIfAborted();
  }

  /** What a quorum grants to this call: its ttl, from this moment on, less the drift allowance. */
  term(since: Instant): Term {
    const { ttlMs } = this;
    return { since, ttlMs, driftMs: driftMs(ttlMs, this.settings.driftFactor) };
  }

  /** Asks every node; undecided after `limitMs`, the round has failed. */
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

  /** Whether a quorum voted for it. The caller's signal, or the end of the Redlock, ends an undecided round. */
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

  /** Attempts once, and then again as the settings say. */
  async untilGiven<T>(
    attempt: () => Promise<T | undefined>,
    timeLeftMs: () => number,
  ): Promise<T | undefined> {
    const retries = timesOf(this.settings.retryCount);
    const signals = [this.instance.closing];
    return (await attempt()) ?? (await this.attemptAgain(attempt, retries, signals, timeLeftMs));
  }

  /**
   * Attempts again, after one that was refused, until an attempt gives something, the retries are used up, or
   * the next one could not begin within the time left.
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

  /** Ms to the next attempt: `retryDelay`, give or take as much as `retryJitter`. */
  nextDelayMs(): number {
    const { retryDelay, retryJitter } = this.settings;
    const jitterMs = Math.floor((this.instance.environment.random() * 2 - 1) * retryJitter);
    return Math.max(0, retryDelay + jitterMs);
  }
}

/** One call that acquires. */
export class Acquisition extends Call {
  /** Where the nodes keep the fencing tokens; undefined where the lock has none. */
  readonly fenceKeys: readonly string[] | undefined;
  /** The least token that the last attempt has left. */
  leastToken = 0;
  /** What the keys of a node that answered "held" hold in place of a lock, once somebody looks. */
  readonly strangers = new Map<Node, Promise<string | undefined>>();

  constructor(
    instance: Instance,
    subject: Subject,
    settings: ResolvedSettings,
    fenceKeys: readonly string[] | undefined,
  ) {
    super(instance, subject, settings);
    this.fenceKeys = fenceKeys;
    // Any number of callers may wait with one signal, such as that of the process's shutdown.
    if (settings.signal instanceof EventTarget) setMaxListeners(0, settings.signal);
  }

  /** How often it attempts after its first attempt. */
  get retries(): number {
    const { acquireTimeout, retryCount } = this.settings;
    if (acquireTimeout !== undefined) return acquireTimeout === 0 ? 0 : Infinity;
    return timesOf(retryCount);
  }

  /**
   * Ms of `acquireTimeout` left; it has no say in a single attempt. What is waited for is timed by the monotonic
   * clock alone: a wall clock that is set forward ends a lock, but no waiting.
   */
  get budgetLeftMs(): number {
    const { acquireTimeout } = this.settings;
    if (acquireTimeout === undefined || acquireTimeout === 0) return Infinity;
    return acquireTimeout - this.elapsedMs;
  }

  /** Ms left of what the call may take altogether, by which it must have said why it gave no lock. */
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

/** How many retries a `retryCount` allows: -1 stands for no limit. */
function timesOf(retryCount: number): number {
  return retryCount === -1 ? Infinity : retryCount;
}
