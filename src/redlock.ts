import { errorMonitor, EventEmitter, setMaxListeners } from "node:events";
import { acquire, tryAcquire } from "./algorithm/acquire.js";
import { adopt, ownPartsOf } from "./algorithm/adopt.js";
import { Acquisition, type Instance } from "./algorithm/call.js";
import { close } from "./algorithm/close.js";
import { extend, Extension } from "./algorithm/extend.js";
import { fenceKeysOf, Tokens } from "./algorithm/fence.js";
import { release, Release, releaseSettings } from "./algorithm/release.js";
import { type Routine, using } from "./algorithm/using.js";
import type { Client } from "./clients/client.js";
import { Abstention, invalidType } from "./errors.js";
import { internalsOf, type WithInternals } from "./internals.js";
import type { Lock, LockIssuer, LockJson } from "./lock.js";
import { makeNodes, type NodeEntry } from "./nodes/entries.js";
import type { Node } from "./nodes/node.js";
import { RestartGuard } from "./nodes/restart-guard.js";
import type { ExecutionResult } from "./quorum/results.js";
import { quorumOf } from "./quorum/round.js";
import { type NodeHealth, nodesHealth } from "./reports/health.js";
import { inspectNode, type NodeInspection } from "./reports/inspect.js";
import { Alarms } from "./runtime/alarms.js";
import { inOwnTurn } from "./runtime/environment.js";
import {
  checkResources,
  checkTtl,
  kindOf,
  type RedlockSettings,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
} from "./settings.js";
import { LocalQueues } from "./waiting/local-queue.js";

/** What a node has to answer in where no ttl says more. */
const NODE_TIMEOUT_WITHOUT_TTL_MS = 250;

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
  /** The settings in force: those of the constructor, with the defaults for the others. */
  readonly settings: ResolvedSettings;
  readonly #nodes: readonly Node[];
  /** Whose connections the library made. */
  readonly #ownNodes: readonly Node[];
  readonly #instance: Instance;
  readonly #closing = new AbortController();

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
    const guard = new RestartGuard(this.settings.restartGuard, quorumOf, environment);
    const made = makeNodes(nodes, environment, checkNode, guard.isOn ? guard : undefined);
    this.#nodes = made.map(({ node }) => node);
    this.#ownNodes = made.flatMap(({ node, own }) => (own ? [node] : []));
    this.clients = new Set(this.#nodes.map(({ client }) => client));
    setMaxListeners(0, this.#closing.signal);
    this.#instance = {
      issuer: this,
      settings: this.settings,
      nodes: this.#nodes,
      environment,
      alarms: new Alarms(environment),
      guard,
      tokens: new Tokens(),
      queues: new LocalQueues(this.#nodes, environment, this.#report),
      closing: this.#closing.signal,
      undecided: new Set(),
      locksInUse: new Set(),
      // A node that was not asked in time is at no fault.
      onRefusal: (error, node) => {
        if (!(error instanceof Abstention)) this.#report(error, node);
      },
    };
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
    return acquire(this.#acquisition("acquire", resources, ttl, settings));
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
    return tryAcquire(this.#acquisition("tryAcquire", resources, ttl, settings, 0));
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
    ownPartsOf(this.#instance, lock, "extend");
    const resolved = resolveSettings(settings, "extend", this.settings);
    checkTtl(ttl, "extend", resolved.driftFactor);
    return extend(new Extension(this.#instance, lock, ttl, resolved));
  }

  /**
   * Releases a lock on every node. Resolves at once for one that is lost, expired or released; where
   * no quorum answers it retries as the settings say, but not past the lock's ttl.
   *
   * @throws ExecutionError `ERR_REDLOCK_QUORUM`, `_CLOSED`. The lock is not valid any more even then,
   *   and nodes that come back before its ttl has passed are still told.
   */
  async release(lock: Lock, settings?: Settings): Promise<ExecutionResult> {
    const base = releaseSettings(this.#instance, ownPartsOf(this.#instance, lock, "release"));
    return release(new Release(this.#instance, lock, resolveSettings(settings, "release", base)));
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
    routine: Routine<T>,
  ): Promise<T>;
  using<T>(resources: string | readonly string[], ttl: number, routine: Routine<T>): Promise<T>;
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
    return using(this.#acquisition("using", resources, ttl, settings), routine);
  }

  /** What each node holds of the resources; a node that cannot say within its time has `ok: false`. */
  async inspect(resources: string | readonly string[]): Promise<NodeInspection[]> {
    const { keyPrefix } = this.settings;
    const names = checkResources(resources, "inspect", keyPrefix);
    this.#closing.signal.throwIfAborted();
    const keys = names.map((resource) => ({ resource, key: keyPrefix + resource }));
    const { environment } = this.#instance;
    return Promise.all(
      this.#nodes.map((node) => inspectNode(node, keys, this.#timeoutMs, environment)),
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
    this.#closing.signal.throwIfAborted();
    const { settings } = this;
    const { environment, guard } = this.#instance;
    const { longestTtlMs } = guard;
    const standard = { settings, timeoutMs: this.#timeoutMs, longestTtlMs };
    return nodesHealth(this.#nodes, standard, environment);
  }

  /**
   * Takes over a lock that another process made, from its `toJSON()`. It is not valid here before its
   * first successful extension: its expiration was set by another host's clock.
   *
   * @throws TypeError for what is no such data, or another `keyPrefix` than this Redlock's
   */
  adopt(json: LockJson): Lock {
    return adopt(this.#instance, json);
  }

  /**
   * Quits every connection, including those of clients passed in. Later calls reject with `ERR_REDLOCK_CLOSED`.
   *
   * Locks of running `using` calls are released first: their signals abort with a LockLostError. Locks from
   * `acquire` stay until their ttl has passed, since another process may have adopted them.
   */
  async quit(): Promise<void> {
    await close(this.#instance, this.#closing, this.#nodes, this.#timeoutMs);
  }

  /** Closes as `quit` does, but only the connections that the library made; clients passed in stay open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await close(this.#instance, this.#closing, this.#ownNodes, this.#timeoutMs);
  }

  /** Checks all of a call's input before anything is sent. */
  #acquisition(
    name: string,
    resources: string | readonly string[],
    ttl: number,
    settings: Settings | undefined,
    acquireTimeout?: number,
  ): Acquisition {
    const names = checkResources(resources, name, this.settings.keyPrefix);
    const resolved = resolveSettings(settings, name, this.settings);
    checkTtl(ttl, name, resolved.driftFactor);
    const keys = this.#keysOf(names);
    return new Acquisition(
      this.#instance,
      { resources: names, keys, ttlMs: ttl },
      acquireTimeout === undefined ? resolved : { ...resolved, acquireTimeout },
      resolved.fencing ? fenceKeysOf(keys, name) : undefined,
    );
  }

  #keysOf(resources: readonly string[]): string[] {
    return resources.map((resource) => this.settings.keyPrefix + resource);
  }

  /** What each node has to answer in where no ttl says more. */
  get #timeoutMs(): number {
    return this.settings.nodeTimeout ?? NODE_TIMEOUT_WITHOUT_TTL_MS;
  }

  /** In a turn of its own, so that a listener that throws breaks no vote count. */
  readonly #report = (error: Error, node?: Node): void => {
    const about = node === undefined ? [] : [node.name];
    inOwnTurn(() => this.emit("error", error, ...about));
  };

  /** As any emitter's, but `error` harms nobody where nobody listens: Node would end the process. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event !== "error" || this.listenerCount("error") > 0) return super.emit(event, ...args);
    super.emit(errorMonitor, ...args);
    return true;
  }
}
