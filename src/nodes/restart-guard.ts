import type { Environment } from "../runtime/environment.js";
import { isPassing, isReply } from "../clients/connection.js";

/** INFO gives the uptime in whole seconds of the server's clock. The server is at least that old, minus this. */
const UPTIME_SLACK_MS = 2000;

/** When a node may have forgotten its locks, by this client's monotonic clock, and why. */
interface Doubt {
  readonly sinceMs: number;
  readonly why: "started" | "restarted" | "unreadable";
}

/** The state of a node whose votes for acquisitions do not count yet. */
export interface Hold extends Doubt {
  readonly untilMs: number;
}

/**
 * Holds back nodes that may have forgotten locks: their votes for acquisitions do not count until every such lock has
 * expired.
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

  /** @param setting the guard time in ms; false for no guard; undefined for the longest ttl in use */
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

  /** Makes the watch of one more node. */
  watch(): Watch {
    const watch = new Watch(this, this.#environment);
    this.#watches.push(watch);
    return watch;
  }

  /** Notes that a lock is acquired or extended with this ttl. */
  use(ttlMs: number): void {
    if (ttlMs <= this.#longestTtlMs) return;
    this.#longestTtlMs = ttlMs;
    for (const watch of this.#watches) watch.review();
    this.exemptFresh();
  }

  /**
   * Lets the votes of young nodes count if so many nodes are young at first contact that no quorum is left: this is a new
   * deployment. There is no such exception from a guard time that the user set.
   */
  exemptFresh(): void {
    if (!this.knowsExceptions) return;
    const young = this.#watches.filter((watch) => watch.isYoung);
    const { length } = this.#watches;
    if (young.length <= length - this.#quorumOf(length)) return;
    for (const watch of young) watch.exempt();
  }
}

/** Knows the identity of one node, and since when the node has not lost its data. */
export class Watch {
  readonly #guard: RestartGuard;
  readonly #environment: Environment;
  #askedEpoch = -1;
  #knownEpoch = -1;
  /** The connection on which all its votes count. The hot path reads nothing else. */
  #clearEpoch = -1;
  #isKnown = false;
  #isExempt = false;
  #runId: string | undefined;
  #doubt: Doubt | undefined;

  constructor(guard: RestartGuard, environment: Environment) {
    this.#guard = guard;
    this.#environment = environment;
  }

  /** Returns whether INFO is to be sent before the next command on this connection. */
  mustAsk(epoch: number): boolean {
    if (this.#askedEpoch === epoch) return false;
    this.#askedEpoch = epoch;
    return true;
  }

  /** Notes that INFO failed. */
  failed(error: Error, epoch: number, openedMs: number): void {
    if (isReply(error) && !isPassing(error)) this.met("", epoch, openedMs);
    else this.#askedEpoch = -1;
  }

  /**
   * Notes the node's reply to INFO.
   *
   * @param info the section `server` of INFO; without a run id it cannot be compared with a later one
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

  /** Returns whether the node has replied to INFO on this connection. */
  knows(epoch: number): boolean {
    return this.#knownEpoch === epoch;
  }

  /** Returns why the node's votes do not count now; undefined if they do, or nothing is known yet. */
  hold(epoch: number): Hold | undefined {
    if (this.#clearEpoch === epoch) return undefined;
    const hold = this.#isExempt ? undefined : this.#hold();
    if (hold === undefined && this.knows(epoch)) this.#clearEpoch = epoch;
    return hold;
  }

  /** Called when the guard time has grown. */
  review(): void {
    this.#clearEpoch = -1;
  }

  get isYoung(): boolean {
    return this.#doubt?.why === "started" && this.#hold() !== undefined;
  }

  /** Whether its votes will count if other nodes turn out to be young as well. */
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

/** Reads the lines `name:value` of a reply to INFO. */
export function fieldsOf(info: unknown): Readonly<Partial<Record<string, string>>> {
  const lines = typeof info === "string" ? info.split(/\r?\n/) : [];
  return Object.fromEntries(
    lines.flatMap((line) => {
      const colon = line.indexOf(":");
      return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)] as const] : [];
    }),
  );
}
