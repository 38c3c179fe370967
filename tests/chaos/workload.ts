// What a client process does with the library, over and over: each call, in a mix drawn from the seed.

import { setTimeout as sleep } from "node:timers/promises";
import type { Lock, LockJson, Redlock } from "../../src/index.js";
import { LONGEST_TTL_MS } from "./plan.js";
import { between, type Random, someOf, weighted } from "./random.js";
import { type Call, nowUs } from "./records.js";
import { Tenure, type TenureContext } from "./tenure.js";

const TTLS_MS = [600, 1_000, LONGEST_TTL_MS] as const;
const ACQUIRE_TIMEOUT_MS = 3_000;
const PROBE_TTL_MS = 1_000;
const PROBE_PAUSE_MS = 20;
/** So many calls are readers', where there are readers. */
const READERS_SHARE = 0.7;

export interface WorkloadContext extends TenureContext {
  readonly client: number;
  readonly life: number;
  readonly redlock: Redlock;
  readonly keys: readonly string[];
  readonly permits: number;
  readonly random: Random;
  /** Whether most calls take readers' locks. */
  readonly readers: boolean;
  /** Gives a lock to another process. */
  readonly handOver: (lock: LockJson) => void;
  readonly onAcquired: () => void;
  readonly stopping: () => boolean;
}

const MIX = {
  using: 30,
  "using for longer than the ttl": 3,
  acquire: 20,
  "acquire and extend": 12,
  "acquire several": 6,
  "acquire with a signal": 6,
  tryAcquire: 15,
  "acquire a permit": 22,
  "hand over a permit": 3,
  "hand over": 7,
  abandon: 1,
} as const;
const MIX_WITHOUT_PERMITS = { ...MIX, "acquire a permit": 0, "hand over a permit": 0 };

export class Workload {
  readonly #context: WorkloadContext;
  #tenures = 0;

  constructor(context: WorkloadContext) {
    this.#context = context;
  }

  /** One of the client's users: a call, a pause, the next. */
  async runUser(): Promise<void> {
    const { random, stopping } = this.#context;
    while (!stopping()) {
      await this.#runOne();
      await sleep(between(random, 5, 60));
    }
  }

  /** On a resource of its own, which only faults can refuse. */
  async runProbe(): Promise<void> {
    const { client, redlock, journal, stopping } = this.#context;
    while (!stopping()) {
      const askedUs = nowUs();
      try {
        const lock = await redlock.acquire(`probe-${client}`, PROBE_TTL_MS, { retryCount: 0 });
        journal.add({ type: "probed", atUs: nowUs(), askedUs });
        await redlock.release(lock, { retryCount: 0 }).catch(() => undefined);
      } catch (error) {
        journal.add({ type: "probed", atUs: nowUs(), askedUs, why: codeOf(error) });
      }
      await sleep(PROBE_PAUSE_MS);
    }
  }

  /** The other side of a hand-over. */
  async adopt(json: LockJson): Promise<void> {
    const { redlock } = this.#context;
    await this.#hold("adopt", async () => {
      const lock = redlock.adopt(json);
      return redlock.extend(lock, this.#ttlMs(), { retryCount: 2 });
    });
  }

  async #runOne(): Promise<void> {
    const { redlock, keys, permits, random, readers } = this.#context;
    const names = someOf(random, keys, 1);
    const ttlMs = this.#ttlMs();
    const what = weighted(random, permits > 0 ? MIX : MIX_WITHOUT_PERMITS);
    const shared = readers && random() < READERS_SHARE;
    const acquire = (some = names, signal?: AbortSignal): Promise<Lock> =>
      redlock.acquire(some, ttlMs, { acquireTimeout: ACQUIRE_TIMEOUT_MS, signal, shared });
    // Permits have no tokens.
    const limited = { permits, fencing: false, acquireTimeout: ACQUIRE_TIMEOUT_MS };
    const acquirePermit = (): Promise<Lock> => redlock.acquire("permits", ttlMs, limited);
    switch (what) {
      case "using":
        return this.#use(names, ttlMs, 0, shared);
      case "using for longer than the ttl":
        return this.#use(names, ttlMs, between(random, ttlMs, 2 * ttlMs), shared);
      case "acquire":
        return this.#hold("acquire", () => acquire());
      case "acquire and extend":
        return this.#hold("acquire", () => acquire(), { extending: true });
      case "acquire several":
        return this.#hold("acquire", () => acquire(someOf(random, keys, 2)));
      case "acquire with a signal":
        return this.#hold("acquire", () =>
          acquire(names, AbortSignal.timeout(between(random, 5, 300))),
        );
      case "tryAcquire":
        return this.#hold("tryAcquire", () => redlock.tryAcquire(names, ttlMs, { shared }));
      case "acquire a permit":
        return this.#hold("acquire a permit", acquirePermit, { extending: random() < 0.4 });
      case "hand over a permit":
        return this.#hold("acquire a permit", acquirePermit, { ending: "handed over" });
      case "hand over":
        return this.#hold("acquire", () => acquire(), { ending: "handed over" });
      case "abandon":
        return this.#hold("acquire", () => acquire(), { ending: "abandoned" });
    }
  }

  async #use(
    names: readonly string[],
    ttlMs: number,
    forMs: number,
    shared: boolean,
  ): Promise<void> {
    const { redlock } = this.#context;
    const askedUs = nowUs();
    let tenure: Tenure | undefined;
    try {
      await redlock.using(
        names,
        ttlMs,
        { acquireTimeout: ACQUIRE_TIMEOUT_MS, shared },
        async (signal, lock) => {
          const own = (tenure = this.#begin(lock, "using", askedUs));
          signal.addEventListener("abort", () => {
            own.lost(codeOf(signal.reason));
          });
          own.watch(signal);
          await this.#work(own);
          await this.#linger(own, forMs);
          own.end("released");
        },
      );
    } catch (error) {
      if (tenure === undefined) this.#refused("using", askedUs, codeOf(error));
      else tenure.lost(codeOf(error));
    }
  }

  /** `take` gives the lock; null or an error is a refusal. */
  async #hold(
    call: Call,
    take: () => Promise<Lock | null>,
    { extending = false, ending = "released" }: HoldOptions = {},
  ): Promise<void> {
    const { redlock, handOver } = this.#context;
    const askedUs = nowUs();
    const lock = await take().catch((error: unknown) => {
      this.#refused(call, askedUs, codeOf(error));
    });
    if (lock === null) this.#refused(call, askedUs, "null");
    if (lock === null || lock === undefined) return;
    const tenure = this.#begin(lock, call, askedUs);
    await this.#work(tenure);
    if (extending && tenure.open) {
      await redlock.extend(lock, this.#ttlMs(), { retryCount: 1 }).catch(() => undefined);
      await this.#work(tenure);
    }
    tenure.end(ending);
    if (ending === "handed over") handOver(lock.toJSON());
    else if (ending === "released") await redlock.release(lock).catch(() => undefined);
  }

  #begin(lock: Lock, call: Call, askedUs: number): Tenure {
    this.#context.onAcquired();
    const { client, life } = this.#context;
    const id = `${client}-${life}-${++this.#tenures}`;
    return new Tenure(this.#context, id, lock, call, askedUs);
  }

  async #work(tenure: Tenure): Promise<void> {
    const { random, unchecked } = this.#context;
    const longShare = unchecked ? 0.2 : 0.01;
    for (const key of tenure.keys) {
      const transitMs = { none: 0, short: between(random, 1, 5), long: between(random, 10, 80) };
      const transit = weighted(random, { none: 4, short: 3, long: 3 });
      // Now and then longer than the ttl: a lock that is not extended must then not be relied on.
      const workMs = random() < longShare ? LONGEST_TTL_MS : between(random, 1, 40);
      if (tenure.shared) await tenure.readTwice(key, workMs);
      else await tenure.update(key, workMs, transitMs[transit]);
    }
  }

  async #linger(tenure: Tenure, forMs: number): Promise<void> {
    const untilMs = performance.now() + forMs;
    while (performance.now() < untilMs && tenure.open) {
      await sleep(between(this.#context.random, 20, 150));
    }
    if (forMs > 0 && tenure.open) await this.#work(tenure);
  }

  #refused(call: Call, askedUs: number, why: string): void {
    this.#context.journal.add({ type: "refused", atUs: nowUs(), call, askedUs, why });
  }

  #ttlMs(): number {
    return TTLS_MS[between(this.#context.random, 0, TTLS_MS.length - 1)] ?? TTLS_MS[0];
  }
}

interface HoldOptions {
  readonly extending?: boolean;
  readonly ending?: "released" | "handed over" | "abandoned";
}

function codeOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return "an unknown error";
  if ("code" in error && typeof error.code === "string") return error.code;
  // The reason of AbortSignal.timeout() has a number for its code.
  return error instanceof Error ? error.name : "an unknown error";
}
