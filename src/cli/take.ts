import { inWords } from "../errors.js";
import type { Holder, Lock, Redlock } from "../index.js";
import { asFailure, EXIT, Failure, messageOf, reasonOf } from "./failure.js";
import type { Signals } from "./signals.js";

/** How often a caller that waits without limit looks whether a quorum of nodes still answers. */
const LOOK_INTERVAL_MS = 2500;
/** How long it waits without one. */
const LONGEST_WITHOUT_QUORUM_MS = 10_000;

/** What `run` asks for. */
export interface Wish {
  readonly names: readonly string[];
  readonly ttlMs: number;
  /** How long to wait; 0 for one attempt, undefined for no limit. */
  readonly waitMs: number | undefined;
  /** The exit status if somebody else holds the lock. */
  readonly heldStatus: number;
}

/** Acquires the lock. Throws a Failure with status 75 or 69, or an Interrupted. */
export async function take(redlock: Redlock, wish: Wish, signals: Signals): Promise<Lock> {
  const { names, ttlMs, waitMs, heldStatus } = wish;
  const settings = { autoExtend: true, signal: signals.waiting };
  const lookout = waitMs === undefined ? new Lookout(redlock, names, signals) : undefined;
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
  throw new Failure(heldStatus, await whoHolds(redlock, names, waitMs ?? 0));
}

/** Says who holds the lock, and what to do. */
async function whoHolds(redlock: Redlock, names: readonly string[], waitMs: number) {
  const holders = await Promise.all(
    names.map(async (name) => [name, await redlock.holder(name).catch(() => null)] as const),
  );
  const held = holders.find(([, holder]) => holder !== null);
  const [name, holder] = held ?? [names.join(", "), null];
  const during = waitMs === 0 ? "" : `, and was not free within ${inWords(waitMs)}`;
  const advice = waitMs === 0 ? "Try again later, or wait with --wait." : "Give a longer --wait.";
  return `${name} is ${inWordsOf(holder)}${during}. ${advice}`;
}

function inWordsOf(holder: Holder | null): string {
  if (holder === null) return "held by others";
  const { owner = "another lock", remainingMs } = holder;
  const left =
    remainingMs === Infinity ? "without an expiry" : `for another ${inWords(remainingMs)}`;
  return `held by ${owner} ${left}`;
}

/** Ends a waiting without limit if no quorum of nodes answers, or would grant a lock, for ten seconds. */
class Lookout {
  readonly #redlock: Redlock;
  readonly #name: string;
  readonly #signals: Signals;
  readonly #timer: NodeJS.Timeout;
  /** Since when no quorum could grant the lock. */
  #sinceMs = performance.now();
  /** The last error of each node that could not vote, since the last look. */
  readonly #failures = new Map<string, string>();
  readonly #onVote = (error: Error, node?: string): void => {
    if ("code" in error && error.code === "ERR_REDLOCK_HELD") return;
    if (node !== undefined) this.#failures.set(node, error.message);
  };

  constructor(redlock: Redlock, [name = ""]: readonly string[], signals: Signals) {
    this.#redlock = redlock;
    this.#name = name;
    this.#signals = signals;
    redlock.on("error", this.#onVote);
    this.#timer = setInterval(() => void this.#look(), LOOK_INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#redlock.off("error", this.#onVote);
  }

  async #look(): Promise<void> {
    const problem = await this.#problem();
    this.#failures.clear();
    const nowMs = performance.now();
    if (problem === undefined) this.#sinceMs = nowMs;
    else if (nowMs - this.#sinceMs >= LONGEST_WITHOUT_QUORUM_MS) {
      const advice = "See what is wrong with the nodes: redlock doctor.";
      this.#signals.giveUp(new Failure(EXIT.unavailable, `${problem} ${advice}`));
    }
  }

  async #problem(): Promise<string | undefined> {
    try {
      if ((await this.#redlock.holder(this.#name)) !== null) return undefined;
    } catch (error) {
      return messageOf(error);
    }
    // The nodes answer, and nobody holds the lock: they may refuse to write.
    const most = Math.floor((this.#redlock.clients.size - 1) / 2);
    if (this.#failures.size <= most) return undefined;
    const failures = Array.from(this.#failures, ([node, message]) => `${node} ${message}`);
    return `No quorum of the nodes grants ${this.#name}: ${failures.join(", ")}.`;
  }
}
