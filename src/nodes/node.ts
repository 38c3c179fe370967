import type { Environment } from "../runtime/environment.js";
import { asError, inShort, inWords, NodeError, withoutCommand } from "../errors.js";
import { type Argument, type Command, type Operation } from "../operations/operation.js";
import type { Client } from "../clients/client.js";
import { Coalescer, type Inquiry } from "./coalescer.js";
import {
  type ChannelListener,
  type Connection,
  isReply,
  type Subscription,
} from "../clients/connection.js";
import type { Hold, Watch } from "./restart-guard.js";
import type { PendingKey, PendingRelease } from "./pending.js";
import { PendingReleases } from "./pending-releases.js";

/** After this long a silence, a connection of our own is given up for a new one. */
const LONGEST_SILENCE_MS = 5000;

/** One answer counts for no more than this, or twice the usual: a node that was paused is not a slow node. */
const UNUSUAL_RTT_MS = 100;

interface Silence {
  readonly epoch: number;
  sinceMs: number;
}

/** What the library knows of one node, and the only way by which it is asked for anything. */
export class Node {
  readonly client: Client;
  readonly #connection: Connection;
  readonly #environment: Environment;
  readonly #pending: PendingReleases;
  readonly #coalescer: Coalescer;
  /** Absent where restarts are not guarded against, or cannot be. */
  readonly #watch: Watch | undefined;
  #silence: Silence | undefined;
  #down: { readonly failure: Error | undefined; readonly error: NodeError } | undefined;
  #probing = false;
  #rttMs = 0;
  #unanswered = 0;
  #onIdle: (() => void)[] = [];

  constructor(client: Client, connection: Connection, environment: Environment, watch?: Watch) {
    this.client = client;
    this.#connection = connection;
    this.#environment = environment;
    this.#pending = new PendingReleases(
      connection,
      environment,
      () => this.refusal() === undefined,
    );
    this.#coalescer = new Coalescer(() => this.name, this.#send, environment);
    this.#watch = connection.isCluster ? undefined : watch;
  }

  get name(): string {
    return this.#connection.name;
  }

  /** Whether both lead to the same keys, as far as can be told. */
  reachesSameKeys(other: Node): boolean {
    return this.client === other.client || this.#connection.keyspace === other.#connection.keyspace;
  }

  /**
   * What this node has to answer in where the caller set no `nodeTimeout`: 5 % of the ttl within 50 to
   * 1000 ms, but three times its recent round trip while that is under a third of the ttl.
   *
   * Source: the Redlock description, step 2: the time to wait for one node is "small compared to the
   * total lock auto-release time", with 5 to 50 ms for a ttl of 10 s as its example.
   */
  timeoutMs(ttlMs: number): number {
    const usualMs = Math.min(Math.max(Math.round(ttlMs * 0.05), 50), 1000);
    const slowMs = 3 * this.#rttMs;
    return slowMs < ttlMs / 3 ? Math.max(usualMs, slowMs) : usualMs;
  }

  /**
   * Why this node votes against without being asked: it is down, or silent, that is, it let an
   * operation time out and has answered nothing since. Nothing may pile up for such a node.
   */
  refusal(): NodeError | undefined {
    if (this.#connection.state === "down") return this.#downError();
    const silence = this.#silence;
    if (silence === undefined) return undefined;
    if (silence.epoch !== this.#connection.epoch) {
      this.#silence = undefined;
      return undefined;
    }
    const silentMs = this.#environment.monotonicMs() - silence.sinceMs;
    this.#rouse(silence, silentMs);
    return new NodeError(
      `no answer for ${inWords(silentMs)}`,
      "ERR_REDLOCK_NODE_TIMEOUT",
      this.name,
    );
  }

  /** Made once for each failure: an error's stack costs more than the rest of a vote. */
  #downError(): NodeError {
    const { failure } = this.#connection;
    if (this.#down === undefined || this.#down.failure !== failure) {
      const cause = withoutCommand(failure ?? new Error("Connection is closed."));
      const message = cause.message === "" ? inShort(cause) : cause.message;
      const error = new NodeError(message, "ERR_REDLOCK_NODE_DOWN", this.name, { cause });
      this.#down = { failure, error };
    }
    return this.#down.error;
  }

  /** Why its vote for an acquisition would not count: it may have forgotten what it held, and is held back. */
  heldBack(): NodeError | undefined {
    const hold = this.#watch?.hold(this.#connection.epoch);
    return hold && this.#doubt(this.#inWords(hold));
  }

  /** Why the vote for an acquisition that it just gave does not count. */
  distrust(): NodeError | undefined {
    const watch = this.#watch;
    const { epoch } = this.#connection;
    const hold = watch?.hold(epoch);
    if (hold !== undefined) return this.#doubt(this.#inWords(hold));
    if (watch === undefined || watch.knows(epoch)) return undefined;
    return this.#doubt("could not say yet whether it restarted");
  }

  /** Whether it is held back only until it is known that the others are as young. */
  get mayBeFresh(): boolean {
    return this.#watch?.mayBeFresh === true;
  }

  /** Until when it is held back, in epoch ms by this host's clock; undefined where it is not. */
  get heldBackUntil(): number | undefined {
    const hold = this.#watch?.hold(this.#connection.epoch);
    if (hold === undefined) return undefined;
    const { wallMs, monotonicMs } = this.#environment.now();
    return Math.ceil(wallMs + hold.untilMs - monotonicMs);
  }

  get lacksSocketTimeout(): boolean {
    return this.#connection.lacksSocketTimeout === true;
  }

  get isCluster(): boolean {
    return this.#connection.isCluster;
  }

  #doubt(message: string): NodeError {
    return new NodeError(message, "ERR_REDLOCK_NODE_DOWN", this.name);
  }

  #inWords({ why, sinceMs, untilMs }: Hold): string {
    const nowMs = this.#environment.monotonicMs();
    const ago = `${inWords(nowMs - sinceMs)} ago`;
    const what = {
      started: `started ${ago}`,
      restarted: `restarted or replaced ${ago}`,
      unreadable: `reconnected ${ago} and cannot say whether it restarted`,
    }[why];
    return `${what}: its votes count again in ${inWords(untilMs - nowMs)}`;
  }

  /** While the node is connecting for the first time: resolves when it may be asked, rejects with its refusal. */
  connecting(): Promise<void> | undefined {
    if (this.#connection.state !== "connecting") return undefined;
    return this.#connection.opened().catch((error: unknown) => {
      throw this.refusal() ?? withoutCommand(error);
    });
  }

  /** The node let an operation time out. */
  fellSilent(): void {
    if (this.#silence?.epoch === this.#connection.epoch) return;
    this.#silence = {
      epoch: this.#connection.epoch,
      sinceMs: this.#environment.monotonicMs(),
    };
    this.#probe();
  }

  /**
   * Keeps a release that the node has not confirmed until it is back, or the ttl has passed. Where what
   * is released is `inFlight` to a node that is silent, the release is sent behind it, on the same
   * connection: the node may wake up and set the key after the debt was forgotten.
   */
  addRelease(release: PendingRelease, inFlight: boolean): void {
    this.#pending.addRelease(release, inFlight || this.#silence === undefined);
  }

  /** Gives the node the key of a lock that is held: now, or as soon as it answers again. */
  addKey(key: PendingKey): void {
    this.#pending.addKey(key);
  }

  /** Keeps nothing for it any more. */
  forgetPending(): void {
    this.#pending.close();
  }

  /** Ends the connection once all that was asked is answered. */
  async quit(): Promise<void> {
    if (!this.#isIdle) {
      await new Promise<void>((resolve) => {
        this.#onIdle.push(resolve);
      });
    }
    await this.#connection.quit();
  }

  disconnect(): void {
    this.#connection.disconnect();
  }

  /** Asks the node, in one call with all that it is asked in this turn of the event loop. */
  ask(inquiry: Inquiry): void {
    // Before any vote: a key that is left from before would refuse it.
    this.#pending.sendAll();
    this.#coalescer.add(inquiry);
  }

  /** Asks the node, as a promise; rejects with the client's error, without the command's arguments. */
  perform(operation: Operation, isUndecided: () => boolean): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.ask({ operation, lapses: true, isUndecided, onReply: resolve, onError: reject });
    });
  }

  /**
   * Asks the node for something that is no vote, as long as `isWanted`, unless it is down or silent. Its error is
   * nobody's; `onReply` is called after any other reply.
   */
  tell(operation: Operation, isWanted: () => boolean, onReply?: () => void): void {
    if (this.refusal() !== undefined) return;
    this.perform(operation, isWanted).then(onReply, () => undefined);
  }

  /** Undefined where the client cannot listen. */
  subscribe(channel: string, listener: ChannelListener): Subscription | undefined {
    return this.#connection.subscribe?.(channel, listener);
  }

  /** Sends one command by itself. */
  query(command: string, args: readonly Argument[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#send({ command, args, sets: [] }, resolve, reject);
    });
  }

  get #isIdle(): boolean {
    return this.#unanswered === 0 && this.#coalescer.isEmpty;
  }

  readonly #send = (
    call: Command,
    onReply: (reply: unknown) => void,
    onError: (error: Error) => void,
  ): void => {
    const { epoch } = this.#connection;
    const sentMs = this.#environment.monotonicMs();
    if (this.#watch?.mustAsk(epoch) === true) this.#identify(this.#watch, epoch);
    this.#sent(call);
    this.#connection.send(call.command, call.args).then(
      (reply) => {
        const lost = this.#heard(epoch);
        if (lost === undefined) {
          this.#measure(sentMs);
          onReply(reply);
        } else {
          onError(lost);
        }
        this.#settled(call);
      },
      (error: unknown) => {
        const lost = isReply(error) ? this.#heard(epoch) : undefined;
        onError(lost ?? withoutCommand(error));
        this.#pending.sendOnReturn();
        this.#settled(call);
      },
    );
  };

  /** Asks who the node is ahead of the first command of a connection, and on it: its answer is there before a vote. */
  #identify(watch: Watch, epoch: number): void {
    const connection = this.#connection;
    connection.send("info", ["server"]).then(
      (info) => {
        watch.met(info, epoch, connection.openedMs);
      },
      (error: unknown) => {
        watch.failed(asError(error), epoch, connection.openedMs);
      },
    );
  }

  #sent({ sets }: Command): void {
    this.#unanswered += 1;
    this.#pending.sent(sets);
  }

  #settled({ sets }: Command): void {
    this.#unanswered -= 1;
    this.#pending.settled(sets);
    if (!this.#isIdle) return;
    for (const resolve of this.#onIdle) resolve();
    this.#onIdle = [];
  }

  /**
   * The node answered. What came on a later connection than it was asked on, where the caller's client
   * resent it, may be from a node that forgot: the error that stands for such an answer, which is no vote.
   */
  #heard(epoch: number): NodeError | undefined {
    this.#silence = undefined;
    this.#pending.sendAll();
    if (epoch === this.#connection.epoch) return undefined;
    return new NodeError(
      "the connection was lost before the answer",
      "ERR_REDLOCK_NODE_DOWN",
      this.name,
    );
  }

  #measure(sentMs: number): void {
    const rttMs = Math.min(
      this.#environment.monotonicMs() - sentMs,
      Math.max(UNUSUAL_RTT_MS, 2 * this.#rttMs),
    );
    this.#rttMs = this.#rttMs === 0 ? rttMs : this.#rttMs + (rttMs - this.#rttMs) / 8;
  }

  #rouse(silence: Silence, silentMs: number): void {
    if (silentMs > LONGEST_SILENCE_MS && this.#connection.renew !== undefined) {
      silence.sinceMs = this.#environment.monotonicMs();
      this.#connection.renew();
    } else {
      this.#probe();
    }
  }

  /** One command that stays in flight, so that a node that comes back is noticed by its answer. */
  #probe(): void {
    if (this.#probing || this.#connection.state !== "ready") return;
    this.#probing = true;
    const { epoch } = this.#connection;
    this.#connection.send("ping", []).then(
      () => {
        this.#probing = false;
        this.#heard(epoch);
      },
      (error: unknown) => {
        this.#probing = false;
        if (isReply(error)) this.#heard(epoch);
        else this.#pending.sendOnReturn();
      },
    );
  }
}
