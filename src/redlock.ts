import { errorMonitor, EventEmitter, setMaxListeners } from "node:events";
import { acquire, tryAcquire } from "./algorithm/acquire.js";
import { adopt, ownPartsOf } from "./algorithm/adopt.js";
import { Acquisition, type Instance } from "./algorithm/call.js";
import { close } from "./algorithm/close.js";
import { extend, Extension } from "./algorithm/extend.js";
import { fenceKeysOf, Tokens } from "./algorithm/fence.js";
import { release, Release, releaseSettings } from "./algorithm/release.js";
import { type Routine, using, usingArguments } from "./algorithm/using.js";
import type { ClientOf } from "./clients/client.js";
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
import { checkResources, checkTtl, keysOf } from "./input.js";
import {
  type RedlockSettings,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
} from "./settings.js";
import { LocalQueues } from "./waiting/local-queue.js";

/** The node timeout of calls without a ttl. */
const NODE_TIMEOUT_WITHOUT_TTL_MS = 250;

/**
 * Takes locks on the majority of independent Redis servers.
 *
 * Emits `error`, with the error and the node's name, for each vote against; the error is a ResourceLockedError if another
 * lock holds the resource. Without a listener, nothing happens.
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
export class Redlock<Nodes extends Iterable<NodeEntry> = Iterable<NodeEntry>>
  extends EventEmitter
  implements LockIssuer
{
  /** Represents each node in statistics: the client that was passed in, or the address of a URL. */
  readonly clients: ReadonlySet<ClientOf<Nodes>>;
  /** The settings in force: those of the constructor, with the defaults for the others. */
  readonly settings: ResolvedSettings;
  readonly #nodes: readonly Node[];
  /** The nodes whose connections the library made. */
  readonly #ownNodes: readonly Node[];
  readonly #instance: Instance;
  readonly #closing = new AbortController();

  /**
   * Connects to the nodes.
   *
   * @param nodes one entry for each independent Redis: a `redis://` or `rediss://` URL, for which the library makes and
   *   owns the connection, or a client that the caller owns
   * @param settings defaults for every call
   * @throws TypeError or RangeError for an invalid node or setting
   */
  constructor(nodes: Nodes, settings: RedlockSettings & WithInternals = {}, scripts?: unknown) {
    super();
    if (scripts !== undefined) {
      throw invalidType(
        "Redlock takes no third argument: custom scripts could break the guarantees of this library. " +
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
    this.clients = new Set(this.#nodes.map(({ client }) => client as ClientOf<Nodes>));
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
      // A node that was not asked has not failed.
      onRefusal: (error, node) => {
        if (!(error instanceof Abstention)) this.#report(error, node);
      },
    };
  }

  /**
   * Acquires a lock on all the resources, and waits for it as the settings say.
   *
   * @param resources at most 1000, whose keys have at most 100 000 characters together
   * @param ttl ms after which the servers free the lock by themselves
   * @returns the lock, which is valid
   * @throws ExecutionError `ERR_REDLOCK_QUORUM`, `_VALIDITY`, `_TIMEOUT` or `_CLOSED`; the signal's reason; TypeError or
   *   RangeError for invalid input, before anything is sent
   */
  async acquire(
    resources: string | readonly string[],
    ttl: number,
    settings?: Settings,
  ): Promise<Lock> {
    return acquire(this.#acquisition("acquire", resources, ttl, settings));
  }

  /**
   * Tries once to acquire a lock. Resolves with null if others hold the resources: if the nodes that granted the lock are
   * no quorum, but together with those that answered "held" they are.
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
   * Extends a lock to `ttl` ms from now, if a quorum still holds it. Resolves with the same lock. A node that had lost the
   * key then gets it again, and counts from the next extension on.
   *
   * A ttl below what is left succeeds, but shortens nothing.
   *
   * @throws ExecutionError `ERR_REDLOCK_EXPIRED` for a lock that is lost or released, `ERR_REDLOCK_QUORUM`, `_VALIDITY` or
   *   `_CLOSED`; TypeError or RangeError for invalid input, before anything is sent
   */
  async extend(lock: Lock, ttl: number, settings?: Settings): Promise<Lock> {
    ownPartsOf(this.#instance, lock, "extend");
    const resolved = resolveSettings(settings, "extend", this.settings);
    checkTtl(ttl, "extend", resolved.driftFactor);
    return extend(new Extension(this.#instance, lock, ttl, resolved));
  }

  /**
   * Releases a lock on every node. Resolves at once for a lock that is lost, expired or released. If no quorum replies,
   * retries as the settings say, but not beyond the lock's ttl.
   *
   * @throws ExecutionError `ERR_REDLOCK_QUORUM` or `_CLOSED`. Even then the lock is no longer valid, and nodes that come
   *   back before its ttl has passed are sent the release.
   */
  async release(lock: Lock, settings?: Settings): Promise<ExecutionResult> {
    const base = releaseSettings(this.#instance, ownPartsOf(this.#instance, lock, "release"));
    return release(new Release(this.#instance, lock, resolveSettings(settings, "release", base)));
  }

  /**
   * Runs `routine` under a lock, extends the lock until it ends, and resolves with its value.
   *
   * If the lock is lost, the signal aborts no later than the validity ends, with a LockLostError as its `reason` and its
   * `error`. The call then rejects with that error, unless the routine throws its own.
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
    const [settings, routine] = usingArguments(settingsOrRoutine, optionalRoutine);
    return using(this.#acquisition("using", resources, ttl, settings), routine);
  }

  /** Reads what each node stores for the resources. A node that does not reply in time has `ok: false`. */
  async inspect(resources: string | readonly string[]): Promise<NodeInspection[]> {
    const { keyPrefix } = this.settings;
    const names = checkResources(resources, "inspect", keyPrefix);
    this.#closing.signal.throwIfAborted();
    const keys = keysOf(names, keyPrefix);
    const { environment } = this.#instance;
    return Promise.all(
      this.#nodes.map((node) => inspectNode(node, names, keys, this.#timeoutMs, environment)),
    );
  }

  /**
   * Checks the health of each node, and says what an operator should know. Writes nothing. Never rejects because of a
   * node: one that does not reply in time has `reachable: false`.
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
   * Takes over a lock of another process, from its `toJSON()`. The lock becomes valid here with its first successful
   * extension, since another host's clock set its expiration.
   *
   * @throws TypeError for invalid data, or data with another `keyPrefix` than this Redlock's
   */
  adopt(json: LockJson): Lock {
    return adopt(this.#instance, json);
  }

  /**
   * Closes every connection, including those of clients that were passed in. Later calls reject with
   * `ERR_REDLOCK_CLOSED`.
   *
   * The locks of running `using` calls are released first, and their signals abort with a LockLostError. Locks from
   * `acquire` stay until their ttl has passed, since another process may have adopted them.
   */
  async quit(): Promise<void> {
    await close(this.#instance, this.#closing, this.#nodes, this.#timeoutMs);
  }

  /** Closes as `quit` does, but leaves clients that were passed in open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await close(this.#instance, this.#closing, this.#ownNodes, this.#timeoutMs);
  }

  /** Checks the input of a call before anything is sent. */
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
    const keys = keysOf(names, this.settings.keyPrefix);
    return new Acquisition(
      this.#instance,
      { resources: names, keys, ttlMs: ttl },
      acquireTimeout === undefined ? resolved : { ...resolved, acquireTimeout },
      resolved.fencing ? fenceKeysOf(keys, name) : undefined,
    );
  }

  /** The node timeout of calls without a ttl. */
  get #timeoutMs(): number {
    return this.settings.nodeTimeout ?? NODE_TIMEOUT_WITHOUT_TTL_MS;
  }

  /** Emits `error` in a microtask of its own, so that a listener that throws cannot disturb the count of votes. */
  readonly #report = (error: Error, node?: Node): void => {
    const about = node === undefined ? [] : [node.name];
    inOwnTurn(() => this.emit("error", error, ...about));
  };

  /** Emits as any emitter does, but an `error` without a listener is ignored. By default it would end the process. */
  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event !== "error" || this.listenerCount("error") > 0) return super.emit(event, ...args);
    super.emit(errorMonitor, ...args);
    return true;
  }
}
