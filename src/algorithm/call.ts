import { setMaxListeners } from "node:events";
import type { ErrorCode } from "../errors.js";
import { checkResources, checkShared, checkTtl, keysOf } from "../input.js";
import type { Node } from "../nodes/node.js";
import type { FoundKey } from "../operations/inspect.js";
import { lockValue } from "../operations/lock-value.js";
import { History } from "../quorum/history.js";
import type { Question } from "../quorum/ballot.js";
import { Round } from "../quorum/round.js";
import { offAbort, onAbort } from "../runtime/aborts.js";
import { type Instant, sleep } from "../runtime/environment.js";
import {
  extensionThresholdMs,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
} from "../settings.js";
import { retry } from "../waiting/retry.js";
import type { Progress } from "../waiting/wait.js";
import { fenceKeysOf } from "./fence.js";
import type { Instance } from "./instance.js";
import { driftMs, type Term } from "./validity.js";

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

  /** Aborts when the Redlock makes no such call any more. */
  get end(): AbortSignal {
    return this.instance.closing;
  }

  /** Throws if the Redlock makes no such call any more. */
  assertOpen(): void {
    this.end.throwIfAborted();
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
    const { end } = this;
    const { undecided } = this.instance;
    const { signal } = this.settings;
    const cut = (): void => {
      round.cut();
    };
    undecided.add(round);
    if (signal !== undefined) onAbort(signal, cut);
    if (signal?.aborted === true || end.aborted) cut();
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
    const signals = [this.end];
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
  /** For each node that was inspected: what it stores under the keys. */
  readonly found = new Map<Node, Promise<readonly FoundKey[]>>();
  /** Whether it waits, after a first attempt that failed. */
  isWaiting = false;
  /** Returns how many waiters are before it, once it is in a queue. */
  ahead: (() => number) | undefined;
  /** How far it came in the queue, if it waited there until it gave up. */
  progress: Progress | undefined;

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

  /** Returns a value that no other attempt has. */
  newValue(): string {
    return lockValue(this.instance.environment.randomValue(), this.settings.owner);
  }

  /** Locks are given until a drain begins. */
  override get end(): AbortSignal {
    return this.instance.draining;
  }

  /** The signals that end waiting. */
  get signals(): readonly AbortSignal[] {
    const { signal } = this.settings;
    return signal === undefined ? [this.end] : [this.end, signal];
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

/**
 * Checks the input of a call that acquires, before anything is sent.
 *
 * @param own settings of this kind of call, which override all others
 */
export function acquisition(
  instance: Instance,
  name: string,
  resources: string | readonly string[],
  ttl: number,
  settings: Settings | undefined,
  own?: Partial<ResolvedSettings>,
): Acquisition {
  const { keyPrefix } = instance.settings;
  const names = checkResources(resources, name, keyPrefix);
  const given = resolveSettings(settings, name, instance.settings);
  const resolved = own === undefined ? given : { ...given, ...own };
  checkTtl(ttl, name, resolved.driftFactor);
  if (resolved.autoExtend) extensionThresholdMs(ttl, resolved);
  const keys = keysOf(names, keyPrefix);
  if (resolved.shared) checkShared(keys, name);
  const fenceKeys = resolved.fencing ? fenceKeysOf(keys, name) : undefined;
  return new Acquisition(instance, { resources: names, keys, ttlMs: ttl }, resolved, fenceKeys);
}

function nodeTimeouts(nodeTimeout: number | undefined, ttlMs: number): (node: Node) => number {
  return (node) => nodeTimeout ?? node.timeoutMs(ttlMs);
}

/** Returns how many retries a `retryCount` allows: -1 means no limit. */
function timesOf(retryCount: number): number {
  return retryCount === -1 ? Infinity : retryCount;
}
