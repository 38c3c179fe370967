import type { Environment } from "../runtime/environment.js";
import { isPassing, isReply } from "../clients/connection.js";

/** Uptime is told in whole seconds of the server's own clock: it is surely older than that less this. */
const UPTIME_SLACK_MS = 2000;

/** Since when a node may have forgotten what it held, by this client's monotonic clock, and why. */
interface Doubt {
  readonly sinceMs: number;
  readonly why: "started" | "restarted" | "unreadable";
}

/** A node's votes for acquisitions do not count yet. */
export interface Hold extends Doubt {
  readonly untilMs: number;
}

/**
 * Holds nodes back that may have forgotten locks that they gave: their votes for acquisitions do not count
 * until every such lock has expired.
 *
 * Source: the Redlock description, "Performance, crash recovery and fsync": a node that restarts should be
 * "unavailable, after a crash, for at least a bit more than the max TTL we use".
 */
export class RestartGuard {
  readonly isOn: boolean;
  readonly #givenMs: number | undefined;
  readonly #quorumOf: (nodeCount: number) => number;
  readonly #environment: Environment;
  readonly #watches: Watch[] = [];
  #longestTtlMs = 0;

  /** @param setting ms, or false for none; without one, the longest ttl in use */
  constructor(
    setting: number | false | undefined,
    quorumOf: (nodeCount: number) => number,
    environment: Environment,
  ) {
    this.isOn = setting !== false;
    this.#givenMs = setting === false ? undefined : setting;
    this.#quorumOf = quorumOf;
    this.#environment = environment;
  }

  /** The longest ttl that this client has used, in ms; 0 before the first. */
  get longestTtlMs(): number {
    return this.#longestTtlMs;
  }

  get timeMs(): number {
    return this.#givenMs ?? this.#longestTtlMs;
  }

  get knowsExceptions(): boolean {
    return this.#givenMs === undefined;
  }

  /** What watches one more node. */
  watch(): Watch {
    const watch = new Watch(this, this.#environment);
    this.#watches.push(watch);
    return watch;
  }

  /** A lock is asked for, or extended, with this ttl. */
  use(ttlMs: number): void {
    if (ttlMs <= this.#longestTtlMs) return;
    this.#longestTtlMs = ttlMs;
    for (const watch of this.#watches) watch.review();
    this.exemptFresh();
  }

  /**
   * Where so many nodes are young at first contact that no quorum would be left, this is a fresh
   * deployment, and they count. A guard time given by hand knows no exception.
   */
  exemptFresh(): void {
    if (!this.knowsExceptions) return;
    const young = this.#watches.filter((watch) => watch.isYoung);
    const { length } = this.#watches;
    if (young.length <= length - this.#quorumOf(length)) return;
    for (const watch of young) watch.exempt();
  }
}

/** What is known of who one node is, and since when it surely forgot nothing. */
export class Watch {
  readonly #guard: RestartGuard;
  readonly #environment: Environment;
  #askedEpoch = -1;
  #knownEpoch = -1;
  /** On this connection all its votes count: all that the hot path reads. */
  #clearEpoch = -1;
  #isKnown = false;
  #isExempt = false;
  #runId: string | undefined;
  #doubt: Doubt | undefined;

  constructor(guard: RestartGuard, environment: Environment) {
    this.#guard = guard;
    this.#environment = environment;
  }

  /** Whether the node is to be asked who it is, ahead of the next command on this connection. */
  mustAsk(epoch: number): boolean {
    if (this.#askedEpoch === epoch) return false;
    this.#askedEpoch = epoch;
    return true;
  }

  /** It did not say who it is. */
  failed(error: Error, epoch: number, openedMs: number): void {
    if (isReply(error) && !isPassing(error)) this.met("", epoch, openedMs);
    else this.#askedEpoch = -1;
  }

  /**
   * It said who it is.
   *
   * @param info the section `server` of INFO; one without a run id cannot be compared with another
   * @param openedMs when the connection was made, by the monotonic clock
   */
  met(info: unknown, epoch: number, openedMs: number): void {
    const { run_id: runId, uptime_in_seconds: uptimeS } = fieldsOf(info);
    if (!this.#isKnown) {
      const leastAgeMs = Math.max(0, 1000 * Number(uptimeS) - UPTIME_SLACK_MS);
      if (runId !== undefined && !Number.isNaN(leastAgeMs)) {
        this.#doubt = { sinceMs: this.#environment.monotonicMs() - leastAgeMs, why: "started" };
      }
    } else if (runId === undefined || runId !== this.#runId) {
      const isReadable = runId !== undefined && this.#runId !== undefined;
      this.#doubt = { sinceMs: openedMs, why: isReadable ? "restarted" : "unreadable" };
      this.#isExempt = false;
    }
    this.#isKnown = true;
    this.#runId = runId;
    this.#knownEpoch = epoch;
    this.#guard.exemptFresh();
  }

  /** Whether it said who it is on this connection, as far as it can. */
  knows(epoch: number): boolean {
    return this.#knownEpoch === epoch;
  }

  /** Why its votes do not count now, as far as is known. */
  hold(epoch: number): Hold | undefined {
    if (this.#clearEpoch === epoch) return undefined;
    const hold = this.#isExempt ? undefined : this.#hold();
    if (hold === undefined && this.knows(epoch)) this.#clearEpoch = epoch;
    return hold;
  }

  /** The guard time has grown. */
  review(): void {
    this.#clearEpoch = -1;
  }

  get isYoung(): boolean {
    return this.#doubt?.why === "started" && this.#hold() !== undefined;
  }

  /** Whether its votes may yet count, as soon as other nodes say that they are young. */
  get mayBeFresh(): boolean {
    return this.isYoung && this.#guard.knowsExceptions;
  }

  exempt(): void {
    this.#isExempt = true;
  }

  #hold(): Hold | undefined {
    if (this.#doubt === undefined) return undefined;
    const untilMs = this.#doubt.sinceMs + this.#guard.timeMs;
    return untilMs > this.#environment.monotonicMs() ? { ...this.#doubt, untilMs } : undefined;
  }
}

/** The lines `name:value` of a reply to INFO. */
export function fieldsOf(info: unknown): Readonly<Partial<Record<string, string>>> {
  const lines = typeof info === "string" ? info.split(/\r?\n/) : [];
  return Object.fromEntries(
    lines.flatMap((line) => {
      const colon = line.indexOf(":");
      return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)] as const] : [];
    }),
  );
}
