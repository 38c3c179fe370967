import { type ErrorCode, isHeld } from "../errors.js";
import { checkCompanions, checkResources, checkTtl, keysOf, slotKeysOf } from "../input.js";
import type { Node } from "../nodes/node.js";
import type { FoundKey } from "../operations/inspect.js";
import { lockValue } from "../operations/lock-value.js";
import { History } from "../quorum/history.js";
import { isRefusal, type Question } from "../quorum/ballot.js";
import { quorumOf, Round } from "../quorum/round.js";
import { allowManyListeners, offAbort, onAbort } from "../runtime/aborts.js";
import { type Instant, sleep } from "../runtime/environment.js";
import { Link } from "../runtime/link.js";
import {
  extensionThresholdMs,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
} from "../settings.js";
import type { Position, Progress } from "../waiting/wait.js";
import { fenceKeysOf } from "./fence.js";
import type { Instance } from "./instance.js";
import { Permits } from "./permits.js";
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
  decided(round: Round): Promise<boolean> {
    const { signal } = this.settings;
    const cut = (): void => {
      round.cut();
    };
    const link = new Link(round);
    link.goBehind(this.instance.undecided.before);
    if (signal !== undefined) onAbort(signal, cut);
    if (signal?.aborted === true || this.end.aborted) cut();
    return new Promise((resolve) => {
      round.onDecided((granted) => {
        if (signal !== undefined) offAbort(signal, cut);
        link.leave();
        resolve(granted);
      });
    });
  }

  /** Attempts once, then retries as the settings say. An attempt that failed resolves with undefined or false. */
  untilGiven<T>(
    attempt: () => Promise<T | undefined | false>,
    timeLeftMs: () => number,
  ): Promise<T | undefined> {
    return attempt().then((given) => {
      if (given !== undefined && given !== false) return given;
      return this.attemptAgain(attempt, timesOf(this.settings.retryCount), [this.end], timeLeftMs);
    });
  }

  /**
   * Retries until an attempt succeeds, the retries are used up, or the next attempt could not start within the time
   * left.
   */
  async attemptAgain<T>(
    attempt: () => Promise<T | undefined | false>,
    retries: number,
    signals: readonly AbortSignal[],
    timeLeftMs: () => number,
  ): Promise<T | undefined> {
    for (let left = retries; left > 0; left--) {
      const delayMs = this.nextDelayMs();
      if (delayMs >= timeLeftMs()) return undefined;
      await sleep(this.instance.environment, delayMs, signals);
      if (timeLeftMs() <= 0) return undefined;
      const result = await attempt();
      if (result !== undefined && result !== false) return result;
    }
    return undefined;
  }

  /**
   * Milliseconds until the next attempt: `retryDelay`, plus or minus a random share of `retryJitter`. At least 1: while a
   * majority is down, attempts fail at once, and without a pause the event loop would never get its turn.
   */
  nextDelayMs(): number {
    const { retryDelay, retryJitter } = this.settings;
    const jitterMs = Math.floor((this.instance.environment.random() * 2 - 1) * retryJitter);
    return Math.max(1, retryDelay + jitterMs);
  }
}

/** One call of `acquire`, `tryAcquire` or `using`. */
export class Acquisition extends Call {
  /** The keys of the fencing tokens; undefined without `fencing`. */
  readonly fenceKeys: readonly string[] | undefined;
  /** The least token that the next attempt may propose. */
  leastToken = 0;
  /** The permits of which it takes one; undefined without `permits`. */
  readonly permits: Permits | undefined;
  /** For each node that was inspected: what it stores under the keys. */
  found: Map<Node, Promise<readonly FoundKey[]>> | undefined;
  /** When the first of them said so, by the monotonic clock. */
  foundAtMs: number | undefined;
  /** Up to how many ms the pause between attempts grows while too few nodes answer; 0 for always the same pause. */
  mostPauseMs = 0;
  /** Whether it waits, after a first attempt that failed. */
  isWaiting = false;
  /** Where it is in the queue, once it is in one. */
  position: Position | undefined;
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
    const { resources, keys } = subject;
    this.permits =
      settings.permits === undefined
        ? undefined
        : new Permits(resources[0] ?? "", keys, instance.lastSlots, () =>
            instance.environment.random(),
          );
    // Many callers may share one signal, such as the one for the shutdown of the process.
    if (settings.signal !== undefined) allowManyListeners(settings.signal);
  }

  /** Returns a value that no other attempt has. */
  newValue(): string {
    return lockValue(this.instance.environment.randomValue(), this.settings.owner);
  }

  /** Locks are given until a drain begins. */
  override get end(): AbortSignal {
    return this.instance.draining;
  }

  /** Doubles with each attempt that too few nodes answered, up to `mostPauseMs`. */
  override nextDelayMs(): number {
    const delayMs = super.nextDelayMs();
    if (delayMs >= this.mostPauseMs) return delayMs;
    const mostDoublings = Math.ceil(Math.log2(this.mostPauseMs / Math.max(1, delayMs)));
    const doublings = unansweredAttempts(this.history, mostDoublings);
    return Math.min(Math.max(1, delayMs) * 2 ** doublings, this.mostPauseMs);
  }

  /**
   * Calls with the same name have one place in the queue on the nodes between them: an attempt of one has the outcome that
   * one of another would have.
   */
  get queueName(): string {
    const { nodeTimeout, driftFactor, fencing, retryDelay, retryJitter } = this.settings;
    const own = [this.ttlMs, nodeTimeout, driftFactor, fencing, retryDelay, retryJitter];
    return JSON.stringify([this.keys.toSorted(), ...own]);
  }

  /** Resolves as `work` does, or rejects as soon as a signal ends the call: `work` only says why it failed. */
  async unlessEnded<T>(work: Promise<T>): Promise<T> {
    await sleep(this.instance.environment, Infinity, this.signals, (wake) => {
      work.then(wake, wake);
    });
    return work;
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

  /** Milliseconds that an attempt may take: attempts of one slot after the other have the time of one. */
  get attemptLeftMs(): number {
    const { budgetLeftMs, permits } = this;
    if (permits === undefined || permits.endMs === Infinity) return budgetLeftMs;
    return Math.min(budgetLeftMs, permits.endMs - this.instance.environment.monotonicMs());
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
  const base = own === undefined ? instance.settings : { ...instance.settings, ...own };
  const given = resolveSettings(settings, name, base);
  const resolved = own === undefined ? given : { ...given, ...own };
  checkTtl(ttl, name, resolved.driftFactor);
  if (resolved.autoExtend) extensionThresholdMs(ttl, resolved);
  const { permits, shared, fencing } = resolved;
  const named = keysOf(names, keyPrefix);
  const keys = permits === undefined ? named : slotKeysOf(named, permits, name);
  if (shared) checkCompanions(keys, name);
  const fenceKeys = fencing ? fenceKeysOf(keys, name) : undefined;
  return new Acquisition(instance, { resources: names, keys, ttlMs: ttl }, resolved, fenceKeys);
}

/** Returns how many of the last attempts failed because too few nodes answered, counted up to `most`. */
function unansweredAttempts({ rounds }: History, most: number): number {
  let count = 0;
  for (const { ballots } of rounds.toReversed()) {
    const failed = ballots.filter(({ vote }) => isRefusal(vote) && !isHeld(vote)).length;
    if (count >= most || ballots.length - failed >= quorumOf(ballots.length)) break;
    count += 1;
  }
  return count;
}

/** Mostly the next call has the same timeouts. Its lock keeps the function, so it is made once for both. */
let madeLast:
  | {
      readonly nodeTimeout: number | undefined;
      readonly ttlMs: number;
      readonly timeouts: (node: Node) => number;
    }
  | undefined;

function nodeTimeouts(nodeTimeout: number | undefined, ttlMs: number): (node: Node) => number {
  if (madeLast?.nodeTimeout !== nodeTimeout || madeLast?.ttlMs !== ttlMs) {
    const timeouts = (node: Node): number => nodeTimeout ?? node.timeoutMs(ttlMs);
    madeLast = { nodeTimeout, ttlMs, timeouts };
  }
  return madeLast.timeouts;
}

/** Returns how many retries a `retryCount` allows: -1 means no limit. */
function timesOf(retryCount: number): number {
  return retryCount === -1 ? Infinity : retryCount;
}
