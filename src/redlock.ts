import { acquire, tryAcquire } from "./algorithm/acquire.js";
import { adopt, ownPartsOf } from "./algorithm/adopt.js";
import { acquisition } from "./algorithm/call.js";
import { close } from "./algorithm/close.js";
import { extend, Extension } from "./algorithm/extend.js";
import { type Ending, type Instance, makeInstance } from "./algorithm/instance.js";
import { campaign, lead } from "./algorithm/lead.js";
import { release, Release, releaseSettings } from "./algorithm/release.js";
import { traceAcquire, traceExtend, traceRelease, traceUsing } from "./algorithm/tracing.js";
import { type Routine, routineArguments, using } from "./algorithm/using.js";
import type { ClientOf } from "./clients/client.js";
import { announcer, RedlockEmitter, reporter } from "./emitter.js";
import { checkDrain, checkSingle, checkTtl, refuseScripts } from "./input.js";
import { internalsOf } from "./internals.js";
import type { Lock, LockIssuer, LockJson } from "./lock.js";
import type { NodeEntry } from "./nodes/entries.js";
import type { Node } from "./nodes/node.js";
import type { ExecutionResult } from "./quorum/results.js";
import { type ForcedRelease, forceRelease } from "./reports/force-release.js";
import { type NodeHealth, nodesHealth } from "./reports/health.js";
import { type Holder, holder, holders } from "./reports/holder.js";
import { inspect, type NodeInspection } from "./reports/inspect.js";
import { namesAndKeys, type Query, type QueryOptions } from "./reports/query.js";
import { allowManyListeners } from "./runtime/aborts.js";
import {
  type RedlockSettings,
  type ResolvedSettings,
  resolveSettings,
  type Settings,
} from "./settings.js";

/** The node timeout of calls without a ttl. */
const NODE_TIMEOUT_WITHOUT_TTL_MS = 250;

/**
 * Takes locks on the majority of independent Redis servers.
 *
 * Emits the events of RedlockEvents. `error` comes with the error and the node's name for each vote against; the
 * error is a ResourceLockedError if another lock holds the resource. An `error` without a listener is ignored.
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
  extends RedlockEmitter
  implements LockIssuer
{
  /** Represents each node in statistics: the client that was passed in, or the address of a URL. */
  readonly clients: ReadonlySet<ClientOf<Nodes>>;
  /** The settings in force: those of the constructor, with the defaults for the others. */
  readonly settings: ResolvedSettings;
  readonly #instance: Instance;
  readonly #ending: Ending = {
    draining: new AbortController(),
    closing: new AbortController(),
  };

  /**
   * Connects to the nodes.
   *
   * @param nodes one entry for each independent Redis: a `redis://` or `rediss://` URL, for which the library makes and
   *   owns the connection, or a client that the caller owns
   * @param settings defaults for every call
   * @param scripts must be left out: node-redlock takes custom scripts here, which this library refuses
   * @throws TypeError or RangeError for an invalid node or setting
   */
  constructor(nodes: Nodes, settings: RedlockSettings = {}, scripts?: unknown) {
    super();
    refuseScripts(scripts);
    this.settings = resolveSettings(settings, "new Redlock");
    const { draining, closing } = this.#ending;
    for (const { signal } of [draining, closing]) allowManyListeners(signal);
    const outlet = { issuer: this, report: reporter(this), announce: announcer(this) };
    this.#instance = makeInstance(
      nodes,
      this.settings,
      internalsOf(settings),
      this.#ending,
      outlet,
    );
    this.clients = new Set(this.#instance.nodes.map(({ client }) => client as ClientOf<Nodes>));
  }

  /**
   * Acquires a lock on all the resources, and waits for it as the settings say.
   *
   * @param resources at most 1000, whose keys have at most 100 000 characters together
   * @param ttl ms after which the servers free the lock by themselves
   * @param settings with `autoExtend: true`, the library extends the lock until it is released or lost
   * @returns the lock, which is valid
   * @throws ExecutionError `ERR_REDLOCK_QUORUM`, `_VALIDITY`, `_TIMEOUT` or `_CLOSED`, whose `reason` says whether
   *   somebody else holds the lock; the signal's reason; TypeError or RangeError for invalid input, before anything is sent
   */
  async acquire(
    resources: string | readonly string[],
    ttl: number,
    settings?: Settings,
  ): Promise<Lock> {
    const call = acquisition(this.#instance, "acquire", resources, ttl, settings);
    return traceAcquire(call, acquire);
  }

  /**
   * Tries once to acquire a lock. Resolves with null if others hold the resources: a quorum of nodes replied, but too few of
   * them granted the lock.
   *
   * @throws as `acquire` does
   */
  async tryAcquire(
    resources: string | readonly string[],
    ttl: number,
    settings?: Settings,
  ): Promise<Lock | null> {
    const own = { acquireTimeout: 0 };
    const call = acquisition(this.#instance, "tryAcquire", resources, ttl, settings, own);
    return traceAcquire(call, tryAcquire);
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
    return traceExtend(new Extension(this.#instance, lock, ttl, resolved), false, extend);
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
    const resolved = resolveSettings(settings, "release", base);
    return traceRelease(new Release(this.#instance, lock, resolved), release);
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
  /** Runs `routine` under a lock, with the settings of this Redlock. */
  using<T>(resources: string | readonly string[], ttl: number, routine: Routine<T>): Promise<T>;
  async using<T>(
    resources: string | readonly string[],
    ttl: number,
    settingsOrRoutine: Settings | Routine<T>,
    optionalRoutine?: Routine<T>,
  ): Promise<T> {
    const [settings, routine] = routineArguments("using", settingsOrRoutine, optionalRoutine);
    const own = { autoExtend: true };
    const call = acquisition(this.#instance, "using", resources, ttl, settings, own);
    return traceUsing(call, () => using(call, routine));
  }

  /**
   * Campaigns until this process is the leader, and runs `routine` as long as it is. Resolves with what the routine
   * returns. If the leadership is lost, the signal aborts, and the call campaigns again once the routine has ended.
   *
   * The signal also aborts when `settings.signal` does: the call then releases the lock at once, and resolves once the
   * routine has ended. Closing the Redlock does the same, but with a drain the lock is held until the routine ends. After
   * `maxHold` another process gets its turn. With `fencing`, `lock.fence` is the number of the term.
   *
   * @param name what to lead; `holder(name)` says who does
   * @returns undefined if the routine was not run, or threw because its signal aborted
   * @throws what the routine throws, unless it is its signal's reason, an AbortError, or an error that one of them caused;
   *   TypeError or RangeError for invalid input, such as an `acquireTimeout`: a campaign has no end of its own
   *
   * @example
   * ```ts
   * await redlock.lead("scheduler", 10_000, { signal: shutdown.signal }, async (signal) => {
   *   while (!signal.aborted) await runDueJobs(signal);
   * });
   * ```
   */
  lead<T>(
    name: string,
    ttl: number,
    settings: Settings,
    routine: Routine<T>,
  ): Promise<T | undefined>;
  /** Leads with the settings of this Redlock. */
  lead<T>(name: string, ttl: number, routine: Routine<T>): Promise<T | undefined>;
  async lead<T>(
    name: string,
    ttl: number,
    settingsOrRoutine: Settings | Routine<T>,
    optionalRoutine?: Routine<T>,
  ): Promise<T | undefined> {
    const [settings, routine] = routineArguments("lead", settingsOrRoutine, optionalRoutine);
    const first = campaign(this.#instance, name, ttl, settings);
    // Later ones have the same settings, whatever has become of the object.
    const own = { ...settings };
    return lead(first, () => campaign(this.#instance, name, ttl, own), routine);
  }

  /** Reads what each node stores for the resources. A node that does not reply in time has `ok: false`. */
  async inspect(
    resources: string | readonly string[],
    options?: QueryOptions,
  ): Promise<NodeInspection[]> {
    return inspect(this.#query("inspect", resources, options));
  }

  /**
   * Asks a quorum of the nodes who holds a resource. Returns null if nobody does.
   *
   * @throws ExecutionError `ERR_REDLOCK_QUORUM` if no quorum answers, or `_CLOSED`
   *
   * @example
   * ```ts
   * const holder = await redlock.holder("invoice:7");
   * if (holder) console.log(`${holder.owner} holds it for another ${holder.remainingMs} ms`);
   * ```
   */
  holder(resource: string): Promise<Holder | null>;
  /** Asks who holds each permit of a resource: null for one that nobody holds. */
  holder(resource: string, options: { readonly permits: number }): Promise<(Holder | null)[]>;
  async holder(
    resource: string,
    options?: QueryOptions,
  ): Promise<Holder | null | (Holder | null)[]> {
    checkSingle(resource, "holder");
    const query = this.#query("holder", resource, options);
    return options?.permits === undefined ? holder(query) : holders(query);
  }

  /**
   * Ends the locks on the resources, whoever holds them, and hands over to the waiters. For operators: a holder that is
   * alive learns of it only at its next extension, and works on until then. Keys with other data than a string stay.
   *
   * @returns the locks that were ended, with the nodes that held them
   * @throws ExecutionError `ERR_REDLOCK_QUORUM` if no quorum of nodes did so, or `_CLOSED`
   */
  async forceRelease(
    resources: string | readonly string[],
    options?: QueryOptions,
  ): Promise<ForcedRelease[]> {
    return forceRelease(this.#query("forceRelease", resources, options));
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
    const { settings } = this;
    const { environment, guard, nodes, closing } = this.#instance;
    closing.throwIfAborted();
    const { longestTtlMs } = guard;
    return nodesHealth(nodes, { settings, timeoutMs: this.#timeoutMs, longestTtlMs }, environment);
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
   * Closes every connection, including those of clients that were passed in, except Bun's. Later calls reject with
   * `ERR_REDLOCK_CLOSED`.
   *
   * The locks that the library extends, such as those of running `using` calls, are released first, and their signals
   * abort with a LockLostError. Other locks from `acquire` stay until their ttl has passed, since another process may have
   * adopted them.
   *
   * With `drain`, in ms, calls that acquire or wait reject at once, but held locks have this time to be released. Then the
   * library releases the rest, except locks whose `toJSON()` was called. A second `quit()` ends the drain.
   *
   * @example
   * ```ts
   * process.once("SIGTERM", () => void redlock.quit({ drain: 5000 }));
   * ```
   */
  async quit(options: { readonly drain?: number } = {}): Promise<void> {
    const drainMs = checkDrain(options);
    await this.#close(this.#instance.nodes, drainMs);
  }

  /** Closes as `quit` does, but leaves clients that were passed in open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close(this.#instance.ownNodes, 0);
  }

  #close(nodes: readonly Node[], drainMs: number): Promise<void> {
    return close(this.#instance, this.#ending, { nodes, timeoutMs: this.#timeoutMs, drainMs });
  }

  /** Checks the input of a call that only asks the nodes about resources. */
  #query(call: string, resources: string | readonly string[], options: QueryOptions = {}): Query {
    const { nodes, environment, closing } = this.#instance;
    closing.throwIfAborted();
    const asked = namesAndKeys(resources, call, this.settings.keyPrefix, options);
    return { ...asked, nodes, environment, timeoutMs: this.#timeoutMs };
  }

  /** The node timeout of calls without a ttl. */
  get #timeoutMs(): number {
    return this.settings.nodeTimeout ?? NODE_TIMEOUT_WITHOUT_TTL_MS;
  }
}
