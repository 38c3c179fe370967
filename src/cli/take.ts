import { inWords, remainingInWords } from "../errors.js";
import type { Holder, Lock, NodeInspection, Redlock } from "../index.js";
import { asFailure, EXIT, Failure, reasonOf, unavailable } from "./failure.js";
import { quorumOf } from "../quorum/round.js";
import { allTaken } from "./permits.js";
import { problemInWords } from "./report.js";
import type { Signals } from "./signals.js";

/** How often a caller that waits without limit looks whether a quorum of nodes still answers. */
const LOOK_INTERVAL_MS = 2500;
/** How long it waits without one: if too many nodes cannot be reached, or refuse. */
const LONGEST_REFUSED_MS = 10_000;
/** If they only do not reply in time. On a machine that has no time for this process, that may be its own fault. */
const LONGEST_UNANSWERED_MS = 60_000;

/** What `run` asks for. */
export interface Wish {
  readonly names: readonly string[];
  readonly ttlMs: number;
  /** How long to wait; 0 for one attempt, undefined for no limit. */
  readonly waitMs: number | undefined;
  /** Whether to read. */
  readonly shared: boolean;
  /** Of how many permits to take one; undefined for a lock that one holds. */
  readonly permits: number | undefined;
  /** The exit status if somebody else holds the lock. */
  readonly heldStatus: number;
}

/** Acquires the lock. Throws a Failure with status 75 or 69, or an Interrupted. */
export async function take(redlock: Redlock, wish: Wish, signals: Signals): Promise<Lock> {
  const { names, ttlMs, waitMs, shared, permits } = wish;
  const settings = { autoExtend: true, shared, permits, signal: signals.waiting };
  const lookout = waitMs === undefined ? new Lookout(redlock, wish, signals) : undefined;
  try {
    if (waitMs !== 0) {
      return await redlock.acquire(names, ttlMs, {
        ...settings,
        ...(waitMs === undefined ? { retryCount: -1 } : { acquireTimeout: waitMs }),
      });
    }
    const lock = await redlock.tryAcquire(names, ttlMs, settings);
    if (lock !== null) return lock;
  } catch (error) {
    if (signals.waiting.aborted) throw signals.waiting.reason;
    if (reasonOf(error) !== "held") throw asFailure(error);
  } finally {
    lookout?.stop();
  }
  throw await refused(redlock, wish, waitMs ?? 0);
}

/** Makes the failure that says who holds the lock, and what to do. */
async function refused(redlock: Redlock, wish: Wish, waitMs: number): Promise<Failure> {
  const { names, permits, heldStatus } = wish;
  const during = waitMs === 0 ? "" : `, and was not free within ${inWords(waitMs)}`;
  const advice = waitMs === 0 ? "Try again later, or wait with --wait." : "Give a longer --wait.";
  if (permits !== undefined) {
    const [name = ""] = names;
    const within = waitMs === 0 ? "" : `. None was free within ${inWords(waitMs)}`;
    const taken = await allTaken(redlock, name, permits);
    return new Failure(
      heldStatus,
      `All ${permits} permits of ${name} are ${taken}${within}. ${advice}`,
    );
  }
  const holders = await Promise.all(
    names.map(async (name) => [name, await redlock.holder(name).catch(() => null)] as const),
  );
  const held = holders.find(([, holder]) => holder !== null);
  if (held === undefined) {
    const [node, what] = strangersIn(await redlock.inspect(names).catch(() => []))[0] ?? [];
    if (node !== undefined) {
      // No --conflict-exit-code: nobody else does the work.
      return new Failure(EXIT.held, `${node} ${what}. Give the lock another name.`);
    }
  }
  const [name, holder] = held ?? [names.join(", "), null];
  return new Failure(heldStatus, `${name} is ${inWordsOf(holder)}${during}. ${advice}`);
}

function inWordsOf(holder: Holder | null): string {
  if (holder === null) return "held by others";
  const { owner: name = "another lock", remainingMs, readers } = holder;
  const owner = readers === undefined ? name : "readers";
  return `held by ${owner} ${remainingInWords(remainingMs)}`;
}

/** Returns the nodes that hold other data than a lock, and what. */
function strangersIn(nodes: readonly NodeInspection[]): (readonly [string, string])[] {
  return nodes.flatMap(({ node, resources }) => {
    const stranger = resources.find(({ type }) => !["none", "string"].includes(type));
    if (stranger === undefined) return [];
    return [[node, `holds other data under ${stranger.resource}: a ${stranger.type}`] as const];
  });
}

/** Ends a waiting without limit if no quorum of nodes could grant a lock for too long. */
class Lookout {
  readonly #redlock: Redlock;
  readonly #names: readonly string[];
  readonly #permits: number | undefined;
  readonly #signals: Signals;
  readonly #timer: NodeJS.Timeout;
  /** Since when no quorum could grant the lock. */
  #sinceMs = performance.now();
  /** The last error of each node that could not vote, since the last look. */
  readonly #failures = new Map<string, string>();
  readonly #onVote = (error: Error, node?: string): void => {
    if ("code" in error && error.code === "ERR_REDLOCK_HELD") return;
    if (node !== undefined) this.#failures.set(node, problemInWords(error));
  };

  constructor(redlock: Redlock, { names, permits }: Wish, signals: Signals) {
    this.#redlock = redlock;
    this.#names = names;
    this.#permits = permits;
    this.#signals = signals;
    redlock.on("error", this.#onVote);
    this.#timer = setInterval(() => void this.#look(), LOOK_INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#redlock.off("error", this.#onVote);
  }

  async #look(): Promise<void> {
    const problems = await this.#problems();
    this.#failures.clear();
    const nowMs = performance.now();
    const { size } = this.#redlock.clients;
    const most = size - quorumOf(size);
    if (problems.size <= most) {
      this.#sinceMs = nowMs;
      return;
    }
    const refused = [...problems.values()].filter((why) => !why.startsWith("no answer")).length;
    const limitMs = refused > most ? LONGEST_REFUSED_MS : LONGEST_UNANSWERED_MS;
    if (nowMs - this.#sinceMs < limitMs) return;
    const nodes = Array.from(problems, ([node, why]) => `${node} ${why}`).join(", ");
    const what = `No quorum of the nodes has granted ${this.#names.join(", ")} for ${inWords(nowMs - this.#sinceMs)}: ${nodes}.`;
    this.#signals.giveUp(unavailable(what));
  }

  /** Returns why each node cannot grant a lock. */
  async #problems(): Promise<ReadonlyMap<string, string>> {
    const nodes = await this.#redlock.inspect(this.#names, { permits: this.#permits });
    // The nodes reply, and nobody holds the locks, or one of the permits: they may refuse to write.
    const free = Array.from({ length: this.#permits ?? this.#names.length }, (_, index) =>
      nodes.every(({ resources }) => (resources[index]?.type ?? "none") === "none"),
    );
    const isFree = this.#permits === undefined ? !free.includes(false) : free.includes(true);
    const refusals = isFree ? this.#failures : new Map<string, string>();
    const unread = nodes.filter(({ ok }) => !ok);
    return new Map([
      ...refusals,
      ...(this.#permits === undefined ? strangersIn(nodes) : []),
      ...unread.map(({ node, error }) => [node, problemInWords(error)] as const),
    ]);
  }
}
