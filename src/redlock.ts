import { errorMonitor, EventEmitter, setMaxListeners } from "node:events";
import pTimeout from "p-timeout";
import { offAbort, onAbort } from "./runtime/aborts.js";
import { Alarms } from "./runtime/alarms.js";
import {
  afterPoll,
  endOfTurn,
  type Environment,
  inOwnTurn,
  type Instant,
  pTimeoutTimers,
  sleep,
  type Timer,
} from "./runtime/environment.js";
import {
  Abstention,
  asError,
  type ErrorCode,
  ExecutionError,
  invalidType,
  isHeld,
  ResourceLockedError,
} from "./errors.js";
import { executionError } from "./algorithm/explain.js";
import {
  above,
  confirmation,
  fenceKeysOf,
  isAccepted,
  setsLock,
  Tokens,
} from "./algorithm/fence.js";
import { type NodeHealth, nodesHealth } from "./reports/health.js";
import { History } from "./quorum/history.js";
import { internalsOf, type WithInternals } from "./internals.js";
import { inspectNode, type NamedKey, type NodeInspection } from "./reports/inspect.js";
import { Keeper, type RedlockAbortSignal } from "./algorithm/keeper.js";
import { Lease } from "./algorithm/lease.js";
import { Lock, type LockIssuer, type LockJson, type LockParts, partsOf } from "./lock.js";
import type { Client } from "./clients/client.js";
import { isReply } from "./clients/connection.js";
import { makeNodes, type NodeEntry } from "./nodes/entries.js";
import { RestartGuard } from "./nodes/restart-guard.js";
import type { Node } from "./nodes/node.js";
import type { OwedRelease } from "./nodes/pending-releases.js";
import {
  acquireOperation,
  appliedTo,
  confirmFenceOperation,
  extendOperation,
  type Fence,
  handOverOperation,
  type LineKeys,
  type Operation,
  releaseOperation,
  takeOperation,
  toldBy,
} from "./operations/operation.js";
import { isRefusal, type Question, quorumOf, Round } from "./quorum/round.js";
import type { ExecutionResult } from "./quorum/results.js";
import {
  checkJson,
  checkResources,
  checkTtl,
  extensionThresholdMs,
  kindOf,
  type RedlockSettings,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
} from "./settings.js";
import { driftMs, type Term, validityMs } from "./algorithm/validity.js";
import { lineKeysOf } from "./waiting/queue-keys.js";
import { Lines } from "./waiting/local-queue.js";
import { retry } from "./waiting/retry.js";
import type { Stand } from "./waiting/waiter.js";

/** What a node has to answer in where no ttl says more. */
const NODE_TIMEOUT_WITHOUT_TTL_MS = 250;

/** One call of `acquire` or `extend`, and what came of it so far. */
interface Call {
  readonly ttlMs: number;
  readonly settings: ResolvedSettings;
  readonly start: Instant;
  readonly history: History;
  /** Why the last attempt failed. */
  code: ErrorCode;
}

interface Acquisition extends Call {
  readonly resources: readonly string[];
  readonly keys: readonly string[];
  /** Where the tokens are kept, if the lock is to be fenced. */
  readonly fenceKeys: readonly string[] | undefined;
  /** The least token that the last attempt has left. */
  leastToken: number;
  /** What the keys of a node that answered "held" hold in place of a lock, once somebody looks. */
  strangers: Map<Node, Promise<string | undefined>> | undefined;
}

interface Extension extends Call {
  readonly lock: Lock;
  readonly lease: Lease;
}

/** A lock that is held, as the nodes see it. */
interface Holding {
  readonly keys: readonly string[];
  readonly value: string;
  readonly lease: Lease;
  readonly fence: Fence | undefined;
}

type Routine<T> = (signal: RedlockAbortSignal, lock: Lock) => Promise<T> | T;

/**
 * Takes locks on the majority of independent Redis servers.
 *
 * Emits `error`, with the error and the node's name, for each vote against: a ResourceLockedError where
 * the resource is held. Nothing happens where nobody listens.
 *
 * @example
 * ```ts
 * const redlock = new Redlock(["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]);
 * await redlock.using("invoice:7", 5000, async (signal) => {
 *   for (const item of items) {
 *     signal.throwIfAborted();
 *     await charge(item);
 *   }
 * });
 * ```
 */
export class Redlock extends EventEmitter implements LockIssuer {
  /** What stands for each node in statistics: the client passed in, or for a URL its address. */
  readonly clients: ReadonlySet<Client>;
  readonly settings: ResolvedSettings;
  readonly #nodes: readonly Node[];
  readonly #ownNodes: readonly Node[];
  readonly #environment: Environment;
  readonly #alarms: Alarms;
  readonly #lines: Lines;
  readonly #guard: RestartGuard;
  readonly #tokens = new Tokens();
  #hasSaidNoLine = false;
  readonly #closing = new AbortController();
  /** Of attempts under way. */
  readonly #undecided = new Set<Round>();
  /** Of `using` calls whose routine runs. */
  readonly #locksInUse = new Set<Lock>();

  /**
   * @param nodes one entry an independent Redis: a `redis://` or `rediss://` URL, whose connection the
   *   library makes and owns, or a client that the caller owns
   * @param settings the defaults of every call
   * @throws TypeError, RangeError for a node or a setting that is none
   */
  constructor(
    nodes: Iterable<NodeEntry>,
    settings: RedlockSettings & WithInternals = {},
    scripts?: unknown,
  ) {
    super();
    if (scripts !== undefined) {
      throw invalidType(
        "Redlock takes no third argument: custom scripts could break what the library promises. " +
          "See “Coming from node-redlock” in the README.",
        "ERR_REDLOCK_SCRIPTS",
      );
    }
    this.settings = resolveSettings(settings, "new Redlock");
    const { environment, checkNode } = internalsOf(settings);
    this.#environment = environment;
    this.#alarms = new Alarms(environment);
    this.#guard = new RestartGuard(this.settings.restartGuard, quorumOf, environment);
    const guard = this.#guard.isOn ? this.#guard : undefined;
    const made = makeNodes(nodes, environment, checkNode, guard);
    this.#nodes = made.map(({ node }) => node);
    this.#ownNodes = made.flatMap(({ node, own }) => (own ? [node] : []));
    this.#lines = new Lines(this.#nodes, environment, this.#report);
    this.clients = new Set(this.#nodes.map(({ client }) => client));
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * Takes a lock on all the resources, waiting for it as the settings say.
   *
   * @param resources at most 1000, whose keys have at most 100 000 characters together
   * @param ttl ms after which the servers free the lock by themselves
   * @returns the lock, whose validity is positive
   * @throws ExecutionError `ERR_REDLOCK_QUORUM`, `_VALIDITY`, `_TIMEOUT`, `_CLOSED`; the signal's
   *   reason; TypeError, RangeError before anything is sent
   */
  async acquire(
    resources: string | readonly string[],
    ttl: number,
    settings?: Settings,
  ): Promise<Lock> {
    return this.#acquire(this.#acquisition("acquire", resources, ttl, settings));
  }

  async #acquire(acquisition: Acquisition): Promise<Lock> {
    acquisition.settings.signal?.throwIfAborted();
    const lock = (await this.#firstAttempt(acquisition)) ?? (await this.#wait(acquisition));
    if (lock !== undefined) return lock;
    throw await this.#refusal(acquisition);
  }

  /**
   * A free lock never meets the line. Where others of this process wait in it already, their last attempt
   * stands for this one's first: it would be refused likewise.
   */
  async #firstAttempt(acquisition: Acquisition): Promise<Lock | undefined> {
    const { keys, settings, history } = acquisition;
    const others =
      settings.queue && retriesOf(settings) > 0 ? this.#lines.lastAttempt(keys) : undefined;
    if (others === undefined) return this.#attempt(acquisition);
    history.add(others.round);
    return undefined;
  }

  /** Who is refused waits in line, or polls. */
  async #wait(acquisition: Acquisition): Promise<Lock | undefined> {
    const { keys, settings, start, history, ttlMs } = acquisition;
    const retries = retriesOf(settings);
    if (retries === 0) return undefined;
    const lineKeys = this.#lineKeys(keys, settings);
    const timeLeftMs = (): number => this.#budgetLeftMs(acquisition);
    const look = this.#lookBeforeEnd(acquisition);
    try {
      if (lineKeys === undefined) {
        const attempt = (): Promise<Lock | undefined> => this.#attempt(acquisition);
        return await this.#retry(retries, attempt, settings, timeLeftMs, settings.signal);
      }
      return await this.#lines.wait({
        keys,
        lineKeys,
        start,
        history,
        retries,
        nextDelayMs: () => this.#retryDelayMs(settings),
        mostDelayMs: settings.retryDelay + settings.retryJitter,
        timeLeftMs,
        nodeTimeoutMs: nodeTimeouts(settings, ttlMs),
        signals: this.#signalsOf(settings.signal),
        attempt: (stand) => this.#attempt(acquisition, stand),
        give: (lock, node) => {
          const { lease, fence } = partsOf(lock, "acquire");
          this.#give(node, { keys, value: lock.value, lease, fence });
        },
      });
    } finally {
      if (look !== undefined) this.#environment.clearTimer(look);
    }
  }

  /**
   * Tries once. Null where others hold the resources: where the nodes that voted for us and those that
   * answered "held" are together a quorum, and those that voted for us alone are not.
   *
   * @throws as `acquire` does
   */
  async tryAcquire(
    resources: string | readonly string[],
    ttl: number,
    settings?: Settings,
  ): Promise<Lock | null> {
    const checked = this.#acquisition("tryAcquire", resources, ttl, settings);
    const acquisition = { ...checked, settings: { ...checked.settings, acquireTimeout: 0 } };
    acquisition.settings.signal?.throwIfAborted();
    const lock = await this.#attempt(acquisition);
    if (lock !== undefined) return lock;
    const { last } = acquisition.history;
    const held =
      acquisition.code === "ERR_REDLOCK_QUORUM" &&
      last?.wasCut === false &&
      (await last.quorumWith(isHeld));
    if (held && acquisition.settings.signal?.aborted !== true) return null;
    throw await this.#refusal(acquisition);
  }

  /**
   * One attempt, as the Redlock description has it: try to set the key on every node under one random
   * value; the lock is ours if a majority did so and there is time left of its ttl, after what that
   * took and what the clocks may drift; otherwise release it on every node.
   */
  async #attempt(acquisition: Acquisition, stand?: Stand): Promise<Lock | undefined> {
    const { resources, keys, fenceKeys, ttlMs, settings, history } = acquisition;
    this.#assertOpen();
    // A value of the attempt's own: what is late of it can neither vote in the next nor release that.
    const value = this.#environment.randomValue();
    const since = this.#environment.now();
    const proposed = fenceKeys && {
      keys: fenceKeys,
      token: this.#tokens.propose(since.wallMs, acquisition.leastToken),
    };
    const plain = acquireOperation(keys, value, ttlMs, proposed);
    const round = this.#ask(
      stand === undefined
        ? () => plain
        : (node) => takeOperation(stand.keys, value, ttlMs, stand.standing(node), proposed),
      telling(stand, proposed === undefined ? grantsAll(keys.length) : setsLock(keys.length)),
      acquisition,
      this.#budgetLeftMs(acquisition),
    );
    history.add(round);
    let granted = await this.#decided(round, settings.signal);
    let fence = proposed;
    if (granted && proposed !== undefined && !isAccepted(round)) {
      fence = { ...proposed, token: above(round) };
      this.#tokens.saw(fence.token, since.wallMs);
      acquisition.leastToken = Math.min(fence.token + 1, Number.MAX_SAFE_INTEGER);
      granted = await this.#confirm(fence, value, round, acquisition);
    }

    const isOpen = !this.#closing.signal.aborted;
    const term: Term = { since, ttlMs, driftMs: driftMs(ttlMs, settings.driftFactor) };
    if (granted && isOpen && validityMs(term, this.#environment.now()) > 0) {
      const lease = Lease.held(this.#environment, term);
      this.#giveToRest(round, { keys, value, lease, fence }, stand !== undefined);
      const { queue } = settings;
      return this.#lock({ resources, value, ttlMs, queue, lease, history, fence });
    }
    const asked = round.ballots.flatMap((ballot) => (ballot.asked ? [ballot.node] : []));
    // It always deletes: minorities that reserved would do so for each other for ever.
    const release = releaseOperation(keys, value);
    this.#releaseOn(asked, round, release, { keys, value, ttlMs }, ttlMs, settings);
    // It is on its way before the caller learns of the failure.
    await endOfTurn(this.#environment);
    acquisition.code = granted ? "ERR_REDLOCK_VALIDITY" : "ERR_REDLOCK_QUORUM";
    return undefined;
  }

  /**
   * The second round, where a quorum set the lock but had larger tokens: the fence's token, which is above
   * all that they answered, to the nodes that hold the lock. Only the lock's holder can store one there.
   * The nodes have what the first round left of their time.
   */
  async #confirm(
    fence: Fence,
    value: string,
    first: Round,
    acquisition: Acquisition,
  ): Promise<boolean> {
    const { keys, ttlMs, settings, history } = acquisition;
    const operation = confirmFenceOperation(keys, value, ttlMs, fence);
    const { judge, refusal } = confirmation(first);
    const timeLeftMs = this.#longestNodeTimeoutMs(ttlMs, settings) - first.elapsedMs;
    const limitMs = Math.min(timeLeftMs, this.#budgetLeftMs(acquisition));
    const round = this.#ask(() => operation, judge, acquisition, limitMs, refusal);
    const confirmed = await this.#decided(round, settings.signal);
    if (!confirmed) history.replaceLast(round);
    return confirmed;
  }

  /** An attempt's verdict; an abort, or the end of this Redlock, ends an undecided round. */
  async #decided(round: Round, signal: AbortSignal | undefined): Promise<boolean> {
    const cut = (): void => {
      round.cut();
    };
    this.#undecided.add(round);
    if (signal !== undefined) onAbort(signal, cut);
    if (signal?.aborted === true || this.#closing.signal.aborted) cut();
    const granted = await round.decided();
    if (signal !== undefined) offAbort(signal, cut);
    this.#undecided.delete(round);
    return granted;
  }

  /**
   * Renews a lock for `ttl` ms from now, if a quorum still holds it, and gives the same lock. A node
   * that had lost the key is given it again after that, and counts from the next extension on.
   *
   * A ttl shorter than what is left is granted, but shortens nothing.
   *
   * @throws ExecutionError `ERR_REDLOCK_EXPIRED` for a lock that is lost or released,
   *   `ERR_REDLOCK_QUORUM`, `_VALIDITY`, `_CLOSED`; TypeError, RangeError before anything is sent
   */
  async extend(lock: Lock, ttl: number, settings?: Settings): Promise<Lock> {
    const { lease } = this.#partsOf(lock, "extend");
    const resolved = resolveSettings(settings, "extend", this.settings);
    checkTtl(ttl, "extend", resolved.driftFactor);
    this.#assertOpen();
    if (!lease.open) throw alreadyEnded(lock, lease);
    const extension = this.#extension(lock, lease, ttl, resolved);
    const extended = await this.#untilGiven(
      () => this.#attemptExtension(extension),
      resolved,
      () => (lease.adopted ? Infinity : lease.remainingMs),
    );
    if (extended !== undefined) return extended;
    throw await this.#inTurn(
      extension,
      lease.released ? alreadyEnded(lock, lease) : this.#extensionError(extension),
    );
  }

  /** One attempt to extend. It has failed where it is undecided after `limitMs`, or when the old validity ends. */
  async #attemptExtension(extension: Extension, limitMs = Infinity): Promise<Lock | undefined> {
    const { lock, lease, ttlMs, settings, history } = extension;
    const leftMs = lease.adopted ? Infinity : lease.remainingMs;
    if (leftMs <= 0) return undefined;
    const { resources, fence } = partsOf(lock, "extend");
    const keys = this.#keysOf(resources);
    const since = this.#environment.now();
    const operation = extendOperation(keys, lock.value, ttlMs, fence);
    lease.longestTtlMs = Math.max(lease.longestTtlMs, ttlMs);
    const round = this.#ask(
      () => operation,
      grantsAll(keys.length),
      extension,
      Math.min(limitMs, leftMs),
    );
    history.add(round);
    if (await round.decided()) {
      const term: Term = { since, ttlMs, driftMs: driftMs(ttlMs, settings.driftFactor) };
      extension.code = "ERR_REDLOCK_VALIDITY";
      if (!lease.renew(term)) return undefined;
      this.#keepOnRest(round, { keys, value: lock.value, lease, fence });
      return lock;
    }
    extension.code = "ERR_REDLOCK_QUORUM";
    // So many hold it no longer that no extension can be granted, and somebody else may acquire.
    if (round.isHopeless(isHeld)) lease.lose(this.#extensionError(extension));
    return undefined;
  }

  /**
   * Gives the key of a lock that was just acquired to the nodes that did not vote for it, as soon as each can
   * be asked: a lock that stands on a bare quorum is lost with the first of its nodes. It is no vote.
   */
  #giveToRest(round: Round, holding: Holding, isStanding: boolean): void {
    const { value, lease } = holding;
    round.eachVoteAgainst((error, node) => {
      const give = (): void => {
        this.#give(node, holding);
      };
      if (isHeld(error)) {
        // Whoever held it there is mostly about to release it. One who stands in line is given it as it leaves.
        if (!isStanding) void round.complete().then(give);
      } else if (!isReply(error) && lease.open) {
        node.give({ value, ttlMs: lease.keyTtlMs, give });
      }
    });
  }

  /**
   * After an extension, gives the key again to the nodes that had lost it, in a command of its own: it is no
   * vote in the round that found it gone. Nodes that could not be asked, or not in time, are told of the
   * extension as soon as they can be.
   */
  #keepOnRest(round: Round, holding: Holding): void {
    const { keys, value, lease, fence } = holding;
    round.eachVoteAgainst((error, node) => {
      if (isHeld(error)) {
        void round.complete().then(() => {
          this.#give(node, holding);
        });
      } else if (!isReply(error) && lease.open) {
        const give = (): void => {
          this.#askWhileHeld(
            node,
            () => extendOperation(keys, value, lease.keyTtlMs, fence),
            lease,
          );
          // Its key may have expired meanwhile.
          this.#give(node, holding);
        };
        node.give({ value, ttlMs: lease.keyTtlMs, give });
      }
    });
  }

  /** Each key by itself: the node may hold some of them already. */
  #give(node: Node, { keys, value, lease, fence }: Holding): void {
    for (const [index, key] of keys.entries()) {
      const own = fence && { ...fence, keys: fence.keys.slice(index, index + 1) };
      this.#askWhileHeld(node, () => acquireOperation([key], value, lease.keyTtlMs, own), lease);
    }
  }

  /** Asks a node for something that is no vote, while the lock is held. */
  #askWhileHeld(node: Node, operation: () => Operation, lease: Lease): void {
    if (node.refusal() !== undefined) return;
    node.perform(operation(), () => lease.open).catch(() => undefined);
  }

  /**
   * Releases a lock on every node. Resolves at once for one that is lost, expired or released; where
   * no quorum answers it retries as the settings say, but not past the lock's ttl.
   *
   * @throws ExecutionError `ERR_REDLOCK_QUORUM`, `_CLOSED`. The lock is not valid any more even then,
   *   and nodes that come back before its ttl has passed are still told.
   */
  async release(lock: Lock, settings?: Settings): Promise<ExecutionResult> {
    const parts = this.#partsOf(lock, "release");
    const { lease } = parts;
    const resolved = resolveSettings(settings, "release", this.#releaseSettings(parts));
    const start = this.#environment.now();
    const history = new History(start.wallMs);
    const wasOpen = lease.open;
    if (wasOpen) this.#assertOpen();
    if (!lease.release()) return history;

    const attempt = async (): Promise<true | undefined> => {
      const round = this.#askRelease(lock, parts, resolved);
      history.add(round);
      return (await round.decided()) || undefined;
    };
    if (!wasOpen) {
      if (!this.#closing.signal.aborted) void attempt();
      return new History(start.wallMs);
    }
    const released = await this.#untilGiven(
      attempt,
      resolved,
      () => lock.ttl - this.#msSince(start),
    );
    if (released) return history;
    throw executionError({
      code: "ERR_REDLOCK_QUORUM",
      history,
      elapsedMs: this.#msSince(start),
      refusalInWords: () => "holds it no longer",
    });
  }

  /** A lock's release hands over to the next waiter, or does not, as its acquisition was set. */
  #releaseSettings({ queue }: LockParts): ResolvedSettings {
    return queue === this.settings.queue ? this.settings : { ...this.settings, queue };
  }

  /** Asks every node to release the lock, or to hand it over to the next waiter. */
  #askRelease(
    lock: Lock,
    { resources, lease, history: acquired }: LockParts,
    settings: ResolvedSettings,
  ): Round {
    const keys = this.#keysOf(resources);
    const lineKeys = this.#lineKeys(keys, settings);
    const operation =
      lineKeys === undefined
        ? releaseOperation(keys, lock.value)
        : handOverOperation(lineKeys, lock.value);
    return this.#releaseOn(
      this.#nodes,
      acquired.last,
      operation,
      { keys, value: lock.value, ttlMs: Math.max(lock.ttl, lease.longestTtlMs) },
      lock.ttl,
      settings,
      this.#report,
    );
  }

  /**
   * Runs `routine` under a lock that is extended until it ends, and gives its value.
   *
   * The signal aborts, with a LockLostError as its reason and its `error`, no later than the validity
   * ends. A routine that ends after that rejects with this error, unless it threw its own.
   *
   * @throws as `acquire` does; what the routine throws; LockLostError `ERR_REDLOCK_LOST`
   */
  using<T>(
    resources: string | readonly string[],
    ttl: number,
    settings: Settings,
    routine: (signal: RedlockAbortSignal, lock: Lock) => Promise<T> | T,
  ): Promise<T>;
  using<T>(
    resources: string | readonly string[],
    ttl: number,
    routine: (signal: RedlockAbortSignal, lock: Lock) => Promise<T> | T,
  ): Promise<T>;
  async using<T>(
    resources: string | readonly string[],
    ttl: number,
    settingsOrRoutine: Settings | Routine<T>,
    optionalRoutine?: Routine<T>,
  ): Promise<T> {
    const [settings, routine] =
      typeof settingsOrRoutine === "function"
        ? [undefined, settingsOrRoutine]
        : [settingsOrRoutine, optionalRoutine];
    if (typeof routine !== "function") {
      throw invalidType(
        `INVARIANT: routine is not a function. using() needs one to run under the lock, but has ${kindOf(routine)}.`,
      );
    }
    const acquisition = this.#acquisition("using", resources, ttl, settings);
    const { settings: resolved } = acquisition;
    const thresholdMs = extensionThresholdMs(ttl, resolved);

    const lock = await this.#acquire(acquisition);
    const { lease } = partsOf(lock, "using");
    if (this.#closing.signal.aborted) this.#endInUse(lock);
    this.#assertOpen();
    const keeper = new Keeper(
      {
        lock,
        lease,
        thresholdMs,
        pauseMs: () => this.#retryDelayMs(resolved),
        extend: async (limitMs) => {
          const extension = this.#extension(lock, lease, ttl, resolved);
          const extended = await this.#attemptExtension(extension, limitMs);
          return extended === undefined ? this.#extensionError(extension) : undefined;
        },
      },
      this.#alarms,
      this.#environment,
    );
    this.#locksInUse.add(lock);
    try {
      const value = await routine(keeper.signal, lock);
      const loss = keeper.stop();
      if (loss !== undefined) throw loss;
      return value;
    } finally {
      this.#locksInUse.delete(lock);
      keeper.stop();
      await this.#releaseInTime(lock, resolved);
    }
  }

  /** This Redlock is closed: the lock's release is on its way before its routine learns of the loss. */
  #endInUse(lock: Lock): void {
    const parts = partsOf(lock, "using");
    if (!parts.lease.open) return;
    this.#askRelease(lock, parts, this.#releaseSettings(parts));
    parts.lease.lose(asError(this.#closing.signal.reason));
  }

  /** The routine's outcome is what counts: it waits for the release no longer than for one node. */
  async #releaseInTime(lock: Lock, settings: ResolvedSettings): Promise<void> {
    const milliseconds = this.#longestNodeTimeoutMs(lock.ttl, settings);
    await pTimeout(this.release(lock, { retryCount: 0, nodeTimeout: settings.nodeTimeout }), {
      milliseconds,
      customTimers: pTimeoutTimers(this.#environment),
    }).catch(() => undefined);
  }

  #longestNodeTimeoutMs(ttlMs: number, settings: ResolvedSettings): number {
    return Math.max(...this.#nodes.map(nodeTimeouts(settings, ttlMs)));
  }

  /** What each node holds of the resources; a node that cannot say within its time has `ok: false`. */
  async inspect(resources: string | readonly string[]): Promise<NodeInspection[]> {
    const names = checkResources(resources, "inspect", this.settings.keyPrefix);
    this.#assertOpen();
    const keys = this.#namedKeys(names);
    const timeoutMs = this.settings.nodeTimeout ?? NODE_TIMEOUT_WITHOUT_TTL_MS;
    return Promise.all(
      this.#nodes.map((node) => inspectNode(node, keys, true, timeoutMs, this.#environment)),
    );
  }

  /**
   * How each node is, and what an operator should know of it. Nothing is written. Never rejects because of a
   * node: one that does not answer within its time has `reachable: false`.
   *
   * @example
   * ```ts
   * for (const { node, findings } of await redlock.health()) {
   *   for (const finding of findings) console.warn(`${node} ${finding}`);
   * }
   * ```
   */
  async health(): Promise<NodeHealth[]> {
    this.#assertOpen();
    return nodesHealth(
      this.#nodes,
      {
        settings: this.settings,
        timeoutMs: this.settings.nodeTimeout ?? NODE_TIMEOUT_WITHOUT_TTL_MS,
        longestTtlMs: this.#guard.longestTtlMs,
      },
      this.#environment,
    );
  }

  /**
   * Takes over a lock that another process made, from its `toJSON()`. It is not valid here before its
   * first successful extension: its expiration was set by another host's clock.
   *
   * @throws TypeError for what is no such data, or another `keyPrefix` than this Redlock's
   */
  adopt(json: LockJson): Lock {
    const { resources, value, ttl, expiration, fence } = checkJson(json, this.settings.keyPrefix);
    const lease = Lease.adopted(this.#environment);
    const { queue } = this.settings;
    const parts = { resources, value, ttlMs: ttl, queue, lease, history: new History(0) };
    if (fence === undefined) return this.#lock({ ...parts, statedExpirationMs: expiration });
    this.#tokens.saw(fence, this.#environment.now().wallMs);
    const fenceKeys = fenceKeysOf(this.#keysOf(resources), "adopt");
    return this.#lock({
      ...parts,
      statedExpirationMs: expiration,
      fence: { keys: fenceKeys, token: fence },
    });
  }

  /**
   * Quits every connection, including those of clients passed in. Later calls reject with `ERR_REDLOCK_CLOSED`.
   *
   * Locks of running `using` calls are released first: their signals abort with a LockLostError. Locks from
   * `acquire` stay until their ttl has passed, since another process may have adopted them.
   */
  async quit(): Promise<void> {
    await this.#close(this.#nodes);
  }

  /** Closes as `quit` does, but only the connections that the library made; clients passed in stay open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close(this.#ownNodes);
  }

  async #close(nodes: readonly Node[]): Promise<void> {
    this.#closing.abort(
      new ExecutionError(
        "This Redlock was closed by quit() or disposal. Make a new one.",
        [],
        "ERR_REDLOCK_CLOSED",
      ),
    );
    this.#lines.close();
    for (const node of this.#nodes) node.forgetOwed();
    for (const round of this.#undecided) round.cut();
    for (const lock of this.#locksInUse) this.#endInUse(lock);
    // Calls that attempt, wait or run a routine release what they have on the nodes before the connections end.
    await endOfTurn(this.#environment);
    const milliseconds = this.settings.nodeTimeout ?? NODE_TIMEOUT_WITHOUT_TTL_MS;
    const customTimers = pTimeoutTimers(this.#environment);
    await Promise.all(
      nodes.map((node) =>
        pTimeout(node.quit(), { milliseconds, customTimers }).catch(() => {
          node.disconnect();
        }),
      ),
    );
  }

  /** Checks all of a call's input before anything is sent. */
  #acquisition(
    call: string,
    resources: string | readonly string[],
    ttl: number,
    settings: Settings | undefined,
  ): Acquisition {
    const names = checkResources(resources, call, this.settings.keyPrefix);
    const resolved = resolveSettings(settings, call, this.settings);
    checkTtl(ttl, call, resolved.driftFactor);
    // Any number of callers may wait with one signal, such as that of the process's shutdown.
    if (resolved.signal instanceof EventTarget) setMaxListeners(0, resolved.signal);
    const keys = this.#keysOf(names);
    const fenceKeys = resolved.fencing ? fenceKeysOf(keys, call) : undefined;
    const start = this.#environment.now();
    return {
      resources: names,
      keys,
      fenceKeys,
      leastToken: 0,
      strangers: undefined,
      ttlMs: ttl,
      settings: resolved,
      start,
      history: new History(start.wallMs),
      code: "ERR_REDLOCK_QUORUM",
    };
  }

  #extension(lock: Lock, lease: Lease, ttlMs: number, settings: ResolvedSettings): Extension {
    const start = this.#environment.now();
    return {
      lock,
      lease,
      ttlMs,
      settings,
      start,
      history: new History(start.wallMs),
      code: "ERR_REDLOCK_QUORUM",
    };
  }

  #lock(parts: Omit<LockParts, "redlock" | "keyPrefix">): Lock {
    const { resources, value, ttlMs, queue, lease, history, fence, statedExpirationMs } = parts;
    // Not by spreading: whatever is done with such a lock takes 4 % longer.
    return new Lock({
      redlock: this,
      resources,
      value,
      ttlMs,
      keyPrefix: this.settings.keyPrefix,
      queue,
      lease,
      history,
      fence,
      statedExpirationMs,
    });
  }

  /** What is behind a lock whose keys are named as ours are, and are on our nodes. */
  #partsOf(lock: Lock, call: string): LockParts {
    const parts = partsOf(lock, call);
    const { keyPrefix } = this.settings;
    if (parts.redlock === this) return parts;
    if (parts.keyPrefix !== keyPrefix) {
      throw invalidType(
        `${call}() needs a lock of this Redlock's own keyPrefix, but this one's keys have other names. ` +
          "Call it on the Redlock that acquired the lock, or on one with the same keyPrefix.",
      );
    }
    if (!this.#hasNodesOf(parts.redlock)) {
      throw invalidType(
        `${call}() needs a lock on this Redlock's own nodes, but this one is on other nodes. ` +
          "Call it on the Redlock that acquired it, or on one with the same nodes.",
      );
    }
    return parts;
  }

  /** Whether the two ask the same nodes, in whatever order. */
  #hasNodesOf(issuer: LockIssuer): boolean {
    if (!(#nodes in issuer)) return false;
    const others = issuer.#nodes;
    return (
      others.length === this.#nodes.length &&
      this.#nodes.every((node) => others.some((other) => node.reachesSameKeys(other)))
    );
  }

  #namedKeys(resources: readonly string[]): NamedKey[] {
    return resources.map((resource) => ({ resource, key: this.settings.keyPrefix + resource }));
  }

  /** Undefined where it is not to wait in line, or there can be no line. */
  #lineKeys(keys: readonly string[], { queue }: ResolvedSettings): LineKeys | undefined {
    if (!queue) return undefined;
    const lineKeys = lineKeysOf(keys);
    if (lineKeys === undefined && !this.#hasSaidNoLine) {
      this.#hasSaidNoLine = true;
      const error = new Error(
        `There can be no line for ${keys.join(", ")}: its braces are no hash tag. Who waits for it polls. ` +
          "Give the resource a name without braces, or with a {tag}, or set `queue: false`.",
      );
      this.#emitError(error);
    }
    return lineKeys;
  }

  #keysOf(resources: readonly string[]): string[] {
    return resources.map((resource) => this.settings.keyPrefix + resource);
  }

  #ask(
    operation: Question["operation"],
    judge: Question["judge"],
    { ttlMs, settings }: Call,
    limitMs: number,
    refusal?: Question["refusal"],
  ): Round {
    this.#guard.use(ttlMs);
    return new Round(
      {
        nodes: this.#nodes,
        operation,
        judge,
        nodeTimeoutMs: nodeTimeouts(settings, ttlMs),
        limitMs,
        refusal,
        onRefusal: this.#report,
      },
      this.#environment,
    );
  }

  /** Asks the nodes to release what `acquired` took; those that do not confirm it are owed it. */
  #releaseOn(
    nodes: readonly Node[],
    acquired: Round | undefined,
    operation: Operation,
    owed: OwedRelease,
    ttlMs: number,
    settings: ResolvedSettings,
    report?: (error: Error, node: Node) => void,
  ): Round {
    return new Round(
      {
        nodes,
        operation: () => operation,
        judge: (reply, node) => {
          this.#lines.onHandOver(reply, node);
          return undefined;
        },
        nodeTimeoutMs: nodeTimeouts(settings, ttlMs),
        onRefusal: (error, node) => {
          node.owe(owed, acquired?.isInFlight(node) ?? false);
          report?.(error, node);
        },
      },
      this.#environment,
    );
  }

  readonly #report = (error: Error, node: Node): void => {
    if (!(error instanceof Abstention)) this.#emitError(error, node.name);
  };

  /** In a turn of its own, so that a listener that throws breaks no vote count. */
  #emitError(...told: [error: Error, node?: string]): void {
    inOwnTurn(() => this.emit("error", ...told));
  }

  /** As any emitter's, but `error` harms nobody where nobody listens: Node would end the process. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event !== "error" || this.listenerCount("error") > 0) return super.emit(event, ...args);
    super.emit(errorMonitor, ...args);
    return true;
  }

  #assertOpen(): void {
    this.#closing.signal.throwIfAborted();
  }

  /** Attempts once, and then again as the settings say. */
  async #untilGiven<T>(
    attempt: () => Promise<T | undefined>,
    settings: ResolvedSettings,
    timeLeftMs: () => number,
  ): Promise<T | undefined> {
    const retries = timesOf(settings.retryCount);
    return (await attempt()) ?? (await this.#retry(retries, attempt, settings, timeLeftMs));
  }

  /**
   * Attempts again, after one that was refused, until an attempt gives something, the retries are used up, or
   * the next one could not begin within the time left.
   */
  async #retry<T>(
    retries: number,
    attempt: () => Promise<T | undefined>,
    settings: ResolvedSettings,
    timeLeftMs: () => number,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    const signals = this.#signalsOf(signal);
    const pause = async (): Promise<boolean> => {
      const delayMs = this.#retryDelayMs(settings);
      if (delayMs >= timeLeftMs()) return false;
      await sleep(this.#environment, delayMs, signals);
      return timeLeftMs() > 0;
    };
    return retry(retries, pause, attempt);
  }

  /** What ends a waiting: the caller's signal, and the end of this Redlock. */
  #signalsOf(signal: AbortSignal | undefined): readonly AbortSignal[] {
    const closing = this.#closing.signal;
    return signal === undefined ? [closing] : [closing, signal];
  }

  #retryDelayMs({ retryDelay, retryJitter }: ResolvedSettings): number {
    const jitterMs = Math.floor((this.#environment.random() * 2 - 1) * retryJitter);
    return Math.max(0, retryDelay + jitterMs);
  }

  /**
   * Ms of `acquireTimeout` left; it has no say in a single attempt. What is waited for is timed by the monotonic
   * clock alone: a wall clock that is set forward ends a lock, but no waiting.
   */
  #budgetLeftMs({ settings, start }: Acquisition): number {
    const { acquireTimeout } = settings;
    if (acquireTimeout === undefined || acquireTimeout === 0) return Infinity;
    return acquireTimeout - this.#msSince(start);
  }

  /** Ms left of what `acquire` may take altogether, by which it must have said why it gave no lock. */
  #callLeftMs({ settings, start, ttlMs }: Acquisition): number {
    const { acquireTimeout, retryCount, retryDelay, retryJitter } = settings;
    const nodeTimeoutMs = this.#longestNodeTimeoutMs(ttlMs, settings);
    const callMs =
      acquireTimeout === undefined
        ? (timesOf(retryCount) + 1) * (nodeTimeoutMs + retryDelay + retryJitter)
        : acquireTimeout || nodeTimeoutMs;
    return callMs - this.#msSince(start);
  }

  #msSince({ monotonicMs }: Instant): number {
    return this.#environment.monotonicMs() - monotonicMs;
  }

  /** Why `acquire` or `tryAcquire` gave no lock. */
  async #refusal(acquisition: Acquisition): Promise<ExecutionError> {
    const { settings, history, start, code } = acquisition;
    settings.signal?.throwIfAborted();
    this.#assertOpen();
    const strangers = await this.#strangeKeys(acquisition);
    settings.signal?.throwIfAborted();
    const error = executionError({
      code:
        this.#budgetLeftMs(acquisition) < Infinity && code === "ERR_REDLOCK_QUORUM"
          ? "ERR_REDLOCK_TIMEOUT"
          : code,
      history,
      elapsedMs: this.#msSince(start),
      refusalInWords: (node) => strangers.get(node) ?? "held by another lock",
    });
    return this.#inTurn(acquisition, error);
  }

  /**
   * Gives the error, but lets the event loop turn where no node has replied. With a majority down or silent, a
   * call fails without waiting. A caller that calls again and again would keep the event loop from reading the
   * other nodes' replies, and commands to them would pile up.
   */
  async #inTurn({ history }: Call, error: ExecutionError): Promise<ExecutionError> {
    const hasReply = history.last?.ballots.some(({ reply }) => reply !== undefined);
    if (hasReply !== true) await afterPoll(this.#environment);
    return error;
  }

  /** All of `acquireTimeout` is for waiting, so the look at the keys begins before its end, beside the waiting. */
  #lookBeforeEnd(acquisition: Acquisition): Timer | undefined {
    const leftMs = this.#budgetLeftMs(acquisition);
    if (leftMs === Infinity) return undefined;
    const nodeTimeoutMs = this.#longestNodeTimeoutMs(acquisition.ttlMs, acquisition.settings);
    const look = (): void => void this.#strangeKeys(acquisition);
    return this.#environment.setTimer(look, Math.max(leftMs / 2, leftMs - nodeTimeoutMs));
  }

  /**
   * Keys that hold no lock but other data, in words: SET NX itself only answers "held". Looks once at each node
   * that answered so, or may do so meanwhile: for one that has not voted nobody waits.
   */
  async #strangeKeys(acquisition: Acquisition): Promise<Map<Node, string>> {
    const { history } = acquisition;
    const looks = (acquisition.strangers ??= new Map<Node, Promise<string | undefined>>());
    const strange = new Map<Node, string>();
    const seen = new Set<Node>();
    for (;;) {
      const refusing: Node[] = [];
      for (const { node, vote } of history.last?.ballots ?? []) {
        if (vote === "for" || (isRefusal(vote) && !isHeld(vote))) continue;
        if (!looks.has(node)) looks.set(node, this.#strangeKey(node, acquisition));
        if (vote !== undefined && !seen.has(node)) refusing.push(node);
      }
      if (refusing.length === 0) return strange;
      for (const node of refusing) {
        seen.add(node);
        const stranger = await looks.get(node);
        if (stranger !== undefined) strange.set(node, stranger);
      }
    }
  }

  async #strangeKey(node: Node, acquisition: Acquisition): Promise<string | undefined> {
    const { resources, settings, ttlMs } = acquisition;
    const keys = this.#namedKeys(resources);
    const timeoutMs = Math.min(nodeTimeouts(settings, ttlMs)(node), this.#callLeftMs(acquisition));
    if (timeoutMs <= 0) return undefined;
    const found = await inspectNode(
      node,
      keys,
      false,
      timeoutMs,
      this.#environment,
      settings.signal,
    );
    const stranger = found.resources.find(({ type }) => type !== "string" && type !== "none");
    if (stranger === undefined) return undefined;
    return `key holds a ${stranger.type}${keys.length > 1 ? ` (${stranger.key})` : ""}`;
  }

  #extensionError({ code, history, start }: Extension): ExecutionError {
    return executionError({
      code,
      history,
      elapsedMs: this.#msSince(start),
      refusalInWords: () => "holds this lock no longer",
    });
  }
}

function alreadyEnded(lock: Lock, lease: Lease): ExecutionError {
  return new ExecutionError(
    `Cannot extend an already-expired lock. The one on ${lock.resources.join(", ")} was ` +
      `${lease.released ? "released" : "lost"}: acquire it again.`,
    [],
    "ERR_REDLOCK_EXPIRED",
  );
}

/** What each node has to answer in, for a lock of this ttl. */
function nodeTimeouts({ nodeTimeout }: ResolvedSettings, ttlMs: number): (node: Node) => number {
  return (node) => nodeTimeout ?? node.timeoutMs(ttlMs);
}

/** How often `acquire` attempts after its first attempt. */
function retriesOf({ acquireTimeout, retryCount }: ResolvedSettings): number {
  if (acquireTimeout !== undefined) return acquireTimeout === 0 ? 0 : Infinity;
  return timesOf(retryCount);
}

/** -1 is without end. */
function timesOf(retryCount: number): number {
  return retryCount === -1 ? Infinity : retryCount;
}

/** A vote for is an answer that the operation was applied to every key. */
function grantsAll(keyCount: number): Question["judge"] {
  return (reply) => {
    const applied = toldBy(reply) === undefined ? appliedTo(reply, keyCount) : 0;
    if (applied === keyCount) return undefined;
    return new ResourceLockedError(
      `The operation was applied to: ${applied} of the ${keyCount} requested resources.`,
    );
  };
}

/** Judges likewise, and tells a waiter what each node says that refuses it. */
function telling(stand: Stand | undefined, judge: Question["judge"]): Question["judge"] {
  if (stand === undefined) return judge;
  return (reply, node) => {
    const told = toldBy(reply);
    if (told !== undefined) stand.onTold(node, told);
    return judge(reply, node);
  };
}
