import type { Connection } from "../clients/connection.js";
import { inFull } from "../operations/operation.js";
import { releaseOperation } from "../operations/release.js";
import { releaseSharedOperation } from "../operations/shared.js";
import type { Environment, Timer } from "../runtime/environment.js";
import { Pending, type PendingKey, type PendingRelease } from "./pending.js";

/** A node that refuses a pending release is sent one again after this time, which doubles with each refusal. */
const FIRST_RETRY_MS = 50;
const LONGEST_RETRY_MS = 500;

/** The state while a node replies to pending releases with errors. */
interface Backoff {
  /** The timer of the next try; undefined while a try is under way. */
  timer: Timer | undefined;
  pauseMs: number;
}

/**
 * Keeps what one node has not received yet: releases that it has not confirmed, and keys of locks that it does not hold.
 * Sends them as soon as the node replies again.
 */
export class PendingReleases {
  readonly #connection: Connection;
  readonly #environment: Environment;
  readonly #mayBeAsked: () => boolean;
  readonly #releases: Pending<PendingRelease>;
  /** Keys of locks that are held, for a node that did not answer when they were granted. */
  readonly #keys: Pending<PendingKey>;
  /** The lock values whose release is in flight. */
  readonly #onTheirWay = new Set<string>();
  #backoff: Backoff | undefined;
  #isAwaitingReturn = false;
  #isClosed = false;
  /** How many commands in flight may set a key, or let it live longer. */
  #setting = 0;

  /** @param mayBeAsked returns false while the node is down or silent */
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

  /** @param isBehind whether to send it now, even to a silent node, on the same connection */
  addRelease(release: PendingRelease, isBehind: boolean): void {
    this.#keys.done(release.value);
    if (!this.#isClosed) this.#releases.add(release);
    if (this.#connection.state !== "ready") this.sendOnReturn();
    else if (isBehind) void this.#send(release);
  }

  /** Gives the node the key of a lock that is held: now, or as soon as the node replies again. */
  addKey(key: PendingKey): void {
    if (this.#isClosed) return;
    if (this.#mayBeAsked() && this.#connection.state === "ready") {
      key.give();
    } else {
      this.#keys.add(key);
      this.sendOnReturn();
    }
  }

  /** Drops everything, and keeps nothing new. */
  close(): void {
    this.#isClosed = true;
    this.#releases.clear();
    this.#keys.clear();
    this.#endBackoff();
  }

  /** Notes that a command was sent that may set keys to these values. */
  sent(values: readonly string[]): void {
    if (values.length > 0) this.#setting += 1;
  }

  /** Notes that the command was answered, or that its connection broke. */
  settled(values: readonly string[]): void {
    if (values.length === 0) return;
    this.#setting -= 1;
    // The node may have run the command just now or, if the connection broke, may still run it. A release that was
    // sent behind it may be lost.
    if (this.#releases.size > 0) this.#releases.settled(values);
  }

  /** Sends everything. While the node refuses releases, `#retry` sends them one by one instead. */
  sendAll(): void {
    if (this.isEmpty || this.#backoff !== undefined) return;
    if (this.#connection.state !== "ready") return;
    for (const release of this.#releases) {
      if (!this.#onTheirWay.has(release.value)) void this.#send(release);
    }
    if (this.#keys.size === 0) return;
    // Keys go after the releases, one of which may free the same key. All are taken out first: to give one comes back here.
    const keys = [...this.#keys];
    this.#keys.clear();
    for (const { give } of keys) give();
  }

  /** Sends everything once the connection is ready again. */
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

  /** Sends a release in full, not by EVALSHA: a second try after NOSCRIPT would arrive after the votes. */
  async #send({ keys, value, shared }: PendingRelease): Promise<void> {
    const operation = (shared ? releaseSharedOperation : releaseOperation)(keys, value);
    const { command, args } = inFull(operation.command, operation.script);
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
   * Keeps a release that the node refused with an error, whichever it was, since the key is still there. The text of an
   * error does not tell whether it will pass (Redis 6 wraps the errors of scripts). One command per pause until the ttl
   * has passed is cheap, even if the error is permanent.
   */
  #refused(value: string): void {
    if (this.#isClosed) return;
    this.#releases.defer(value);
    const backoff = (this.#backoff ??= { timer: undefined, pauseMs: FIRST_RETRY_MS });
    if (backoff.timer !== undefined) return;
    backoff.timer = this.#environment.setBackgroundTimer(this.#retry, backoff.pauseMs);
    backoff.pauseMs = Math.min(2 * backoff.pauseMs, LONGEST_RETRY_MS);
  }

  /** Sends the next release. If the node is down or silent by now, it is sent all of them when it is back. */
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
