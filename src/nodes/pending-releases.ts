import type { Connection } from "../clients/connection.js";
import { inFull } from "../operations/operation.js";
import { releaseOperation, releaseScript } from "../operations/release.js";
import type { Environment, Timer } from "../runtime/environment.js";
import { Pending, type PendingKey, type PendingRelease } from "./pending.js";

/** A node that refuses pending releases is sent one of them after this long; the pause doubles with each refusal. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 500;

/** While a node answers pending releases with errors. */
interface Backoff {
  /** Of the next try; undefined while that is under way. */
  timer: Timer | undefined;
  pauseMs: number;
}

/**
 * What one node is still to be told: releases that it has not confirmed, and keys of locks that are held but that
 * it does not hold. Sent as soon as the node answers again.
 */
export class PendingReleases {
  readonly #connection: Connection;
  readonly #environment: Environment;
  readonly #mayBeAsked: () => boolean;
  readonly #releases: Pending<PendingRelease>;
  /** Keys of locks that are held, for a node that did not answer when they were granted. */
  readonly #keys: Pending<PendingKey>;
  /** Values whose release is on its way. */
  readonly #onTheirWay = new Set<string>();
  #backoff: Backoff | undefined;
  #isAwaitingReturn = false;
  #isClosed = false;
  /** How many commands without an answer may set a key, or let it live longer. */
  #setting = 0;

  /** @param mayBeAsked false while the node is down or silent */
  constructor(connection: Connection, environment: Environment, mayBeAsked: () => boolean) {
    this.#connection = connection;
    this.#environment = environment;
    this.#mayBeAsked = mayBeAsked;
    this.#releases = new Pending(environment, () => this.#setting === 0);
    this.#keys = new Pending(environment, () => true);
  }

  get isEmpty(): boolean {
    return this.#releases.size === 0 && this.#keys.size === 0;
  }

  /** @param isBehind whether to send it now, also to a silent node, on the same connection */
  addRelease(release: PendingRelease, isBehind: boolean): void {
    this.#keys.done(release.value);
    if (!this.#isClosed) this.#releases.add(release);
    if (this.#connection.state !== "ready") this.sendOnReturn();
    else if (isBehind) void this.#send(release);
  }

  /** Gives the node the key of a lock that is held: now, or as soon as it answers again. */
  addKey(key: PendingKey): void {
    if (this.#isClosed) return;
    if (this.#mayBeAsked() && this.#connection.state === "ready") {
      key.give();
    } else {
      this.#keys.add(key);
      this.sendOnReturn();
    }
  }

  /** Forgets all of it, and keeps nothing more. */
  close(): void {
    this.#isClosed = true;
    this.#releases.clear();
    this.#keys.clear();
    this.#endBackoff();
  }

  /** A command was sent that may set keys to these values. */
  sent(values: readonly string[]): void {
    if (values.length > 0) this.#setting += 1;
  }

  /** It was answered, or its connection broke. */
  settled(values: readonly string[]): void {
    if (values.length === 0) return;
    this.#setting -= 1;
    // The node may have done it just now or, where the connection broke, do it yet: a release that was
    // sent behind it may be lost all the same.
    if (this.#releases.size > 0) this.#releases.settled(values);
  }

  /** Sends all of it; but while the node refuses them, `#retry` sends the releases one by one. */
  sendAll(): void {
    if (this.isEmpty || this.#backoff !== undefined) return;
    if (this.#connection.state !== "ready") return;
    for (const release of this.#releases) {
      if (!this.#onTheirWay.has(release.value)) void this.#send(release);
    }
    // Behind the releases: one of them may free the same key.
    for (const { value, give } of this.#keys) {
      this.#keys.done(value);
      give();
    }
  }

  /** Sends all of it once the connection is ready again. */
  sendOnReturn(): void {
    if (this.#isAwaitingReturn || this.isEmpty) return;
    if (this.#connection.state === "ready") return;
    this.#isAwaitingReturn = true;
    this.#connection.opened().then(
      () => {
        this.#isAwaitingReturn = false;
        this.#endBackoff();
        this.sendAll();
      },
      () => {
        this.#isAwaitingReturn = false;
        this.sendOnReturn();
      },
    );
  }

  /** In full, not by EVALSHA: a fallback after NOSCRIPT would arrive behind the votes. */
  async #send({ keys, value }: PendingRelease): Promise<void> {
    const { command, args } = inFull(releaseOperation(keys, value).command, releaseScript);
    this.#onTheirWay.add(value);
    try {
      await this.#connection.send(command, args);
      this.#releases.done(value);
      if (this.#backoff !== undefined) {
        this.#endBackoff();
        this.sendAll();
      }
    } catch {
      if (this.#connection.state === "ready") this.#refused(value);
      else this.sendOnReturn();
    } finally {
      this.#onTheirWay.delete(value);
    }
  }

  /**
   * Keeps a release that the node answered with an error, whatever error: the key still stands. Which errors are
   * passing cannot be told from their text (Redis 6 wraps those of a script), and one command a pause, until the
   * ttl has passed, is cheap also where the error is there to stay.
   */
  #refused(value: string): void {
    if (this.#isClosed) return;
    this.#releases.defer(value);
    const backoff = (this.#backoff ??= { timer: undefined, pauseMs: FIRST_RETRY_MS });
    if (backoff.timer !== undefined) return;
    backoff.timer = this.#environment.setBackgroundTimer(this.#retry, backoff.pauseMs);
    backoff.pauseMs = Math.min(2 * backoff.pauseMs, LONGEST_RETRY_MS);
  }

  /** A node that is down or silent meanwhile is sent all of them when it is back. */
  readonly #retry = (): void => {
    if (this.#backoff !== undefined) this.#backoff.timer = undefined;
    const [next] = this.#releases;
    if (next !== undefined && this.#mayBeAsked()) {
      void this.#send(next);
    } else {
      this.#endBackoff();
      this.sendOnReturn();
    }
  };

  #endBackoff(): void {
    if (this.#backoff?.timer !== undefined) this.#environment.clearTimer(this.#backoff.timer);
    this.#backoff = undefined;
  }
}
