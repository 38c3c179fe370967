import type { Environment } from "../runtime/environment.js";
import { asError, HeldBack, inShort, inWords, NodeError, withoutCommand } from "../errors.js";
import { type Argument, type Command, type Operation } from "../operations/operation.js";
import type { Client } from "../clients/client.js";
import { Coalescer, type Inquiry } from "./coalescer.js";
import {
  asReply,
  type ChannelListener,
  type Connection,
  isReply,
  type Subscription,
} from "../clients/connection.js";
import type { Hold, Watch } from "./restart-guard.js";
import { type NodeListener, Outage } from "./outage.js";
import { Silence } from "./silence.js";
import type { PendingKey, PendingRelease } from "./pending.js";
import { PendingReleases } from "./pending-releases.js";

/** One round trip counts for at most this, or twice the usual one: a node that paused once is not a slow node. */
const UNUSUAL_RTT_MS = 100;

/** What the library knows of one node. All commands to the node go through here. */
export class Node {
  readonly client: Client;
  readonly #connection: Connection;
  readonly #environment: Environment;
  readonly #pending: PendingReleases;
  readonly #coalescer: Coalescer;
  readonly #silence: Silence;
  /** Undefined if the restart guard is off, or cannot watch this node. */
  readonly #watch: Watch | undefined;
  readonly #outage: Outage;
  #down: { readonly failure: Error | undefined; readonly error: NodeError } | undefined;
  #rttMs = 0;
  #unanswered = 0;
  #onIdle: (() => void)[] = [];

  constructor(
    client: Client,
    connection: Connection,
    environment: Environment,
    watch?: Watch,
    listener?: NodeListener,
  ) {
    this.client = client;
    this.#connection = connection;
    this.#environment = environment;
    this.#pending = new PendingReleases(
      connection,
      environment,
      () => this.refusal() === undefined,
    );
    this.#coalescer = new Coalescer(() => this.name, this.#send, environment);
    this.#silence = new Silence(
      connection,
      environment,
      (epoch) => this.#heard(epoch),
      () => {
        this.#pending.sendOnReturn();
        this.#outage.lost();
      },
    );
    this.#watch = connection.isCluster ? undefined : watch;
    this.#outage = new Outage(connection, environment, listener);
  }

  get name(): string {
    return this.#connection.name;
  }

  /** Returns whether both reach the same keys, as far as the library can tell. */
  reachesSameKeys(other: Node): boolean {
    const { keyspace } = this.#connection;
    return (
      this.client === other.client ||
      (keyspace !== undefined && keyspace === other.#connection.keyspace)
    );
  }

  /**
   * Returns the node's timeout in ms if the caller set no `nodeTimeout`: 5 % of the ttl, at least 50 and at most 1000 ms;
   * more for a slow node: three times its recent round trip, as long as that is below a third of the ttl.
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
   * Returns why this node votes against without being asked, if it does. It is down; or it is silent: an operation timed
   * out and the node has not replied since. Commands must not pile up for such a node.
   */
  refusal(): NodeError | undefined {
    if (this.#connection.state === "down") {
      const error = this.#downError();
      this.#outage.begin(error);
      return error;
    }
    const silentMs = this.#silence.check();
    if (silentMs === undefined) return undefined;
    return new NodeError(
      `no answer for ${inWords(silentMs)}`,
      "ERR_REDLOCK_NODE_TIMEOUT",
      this.name,
    );
  }

  /** Makes the error once per failure: taking a stack costs more than the rest of a vote. */
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

  /** Returns why the restart guard holds the node back, so that its vote for an acquisition would not count. */
  heldBack(): NodeError | undefined {
    const hold = this.#watch?.hold(this.#connection.epoch);
    return hold && this.#doubt(hold);
  }

  /** Returns why the vote for an acquisition that the node has just given does not count. */
  distrust(): NodeError | undefined {
    const watch = this.#watch;
    const { epoch } = this.#connection;
    const hold = watch?.hold(epoch);
    if (hold !== undefined) return this.#doubt(hold);
    if (watch === undefined || watch.knows(epoch)) return undefined;
    return new HeldBack("could not say yet whether it restarted", this.name);
  }

  /** Whether the node is held back only until a quorum of nodes says that they also started recently. */
  get mayBeFresh(): boolean {
    return this.#watch?.mayBeFresh === true;
  }

  /** Until when the node is held back, in epoch ms by this host's clock; undefined if it is not. */
  get heldBackUntil(): number | undefined {
    const hold = this.#watch?.hold(this.#connection.epoch);
    if (hold === undefined) return undefined;
    const { wallMs, monotonicMs } = this.#environment.now();
    return Math.ceil(wallMs + hold.untilMs - monotonicMs);
  }

  get lacksSocketTimeout(): boolean {
    return this.#connection.lacksSocketTimeout === true;
  }

  /** Whether the node has refused the keys of the queue. */
  get refusesQueue(): boolean {
    return this.#coalescer.refusesQueue;
  }

  get isCluster(): boolean {
    return this.#connection.isCluster;
  }

  #doubt(hold: Hold): NodeError {
    return new HeldBack(this.#inWords(hold), this.name, hold.sinceMs);
  }

  #inWords({ why, sinceMs, untilMs }: Hold): string {
    const nowMs = this.#environment.monotonicMs();
    const ago = `${inWords(nowMs - sinceMs)} ago`;
    const what = {
      started: `started ${ago}`,
      restarted: `restarted or was replaced ${ago}`,
      unreadable: `reconnected ${ago} and cannot say whether it restarted`,
    }[why];
    return `${what}: its votes count again in ${inWords(untilMs - nowMs)}`;
  }

  /** While the node connects for the first time: resolves when it can be asked, rejects with its refusal. */
  connecting(): Promise<void> | undefined {
    if (this.#connection.state !== "connecting") return undefined;
    return this.#connection.opened().catch((error: unknown) => {
      throw this.refusal() ?? withoutCommand(error);
    });
  }

  /** Called when an operation has timed out on this node. */
  fellSilent(): void {
    this.#silence.begin();
    const reason = "did not reply in time";
    this.#outage.begin(new NodeError(reason, "ERR_REDLOCK_NODE_TIMEOUT", this.name));
  }

  /**
   * Keeps a release that the node has not confirmed, until the node is back or the ttl has passed. If the command that may
   * set the key is still `inFlight` to a silent node, the release is also sent right behind it, on the same connection:
   * the node may wake up and set the key after the pending release has expired.
   */
  addRelease(release: PendingRelease, inFlight: boolean): void {
    this.#pending.addRelease(release, inFlight || !this.#silence.isOn);
  }

  /** Gives the node the key of a lock that is held: now, or as soon as the node replies again. */
  addKey(key: PendingKey): void {
    this.#pending.addKey(key);
  }

  /** Drops everything that waits for this node, and keeps nothing new. */
  forgetPending(): void {
    this.#outage.close();
    this.#pending.close();
  }

  /** Closes the connection once no command is in flight. */
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

  /** Asks the node, in one command with everything else that it is asked in this event-loop turn. */
  ask(inquiry: Inquiry): void {
    // Pending releases go first: a key left over from an earlier lock would refuse this operation.
    this.#pending.sendAll();
    this.#coalescer.add(inquiry);
  }

  /** Asks the node. Resolves with the reply, or rejects with the client's error without the command's arguments. */
  perform(operation: Operation, isUndecided: () => boolean): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.ask({ operation, lapses: true, isUndecided, onReply: resolve, onError: reject });
    });
  }

  /**
   * Sends an operation that is not a vote, if it is still wanted at the end of the turn, and the node is neither down nor
   * silent. Errors are ignored; `onReply` is called after any other reply.
   */
  tell(operation: Operation, isWanted: () => boolean, onReply?: () => void): void {
    if (this.refusal() !== undefined) return;
    this.perform(operation, isWanted).then(onReply, () => undefined);
  }

  /** Subscribes to a channel. Returns undefined if the client cannot subscribe. */
  subscribe(channel: string, listener: ChannelListener): Subscription | undefined {
    return this.#connection.subscribe?.(channel, listener);
  }

  /** Sends one command by itself, without coalescing. */
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
        if (isReply(error)) onError(this.#heard(epoch) ?? withoutCommand(asReply(error)));
        else onError(withoutCommand(error));
        this.#pending.sendOnReturn();
        this.#settled(call);
      },
    );
  };

  /** Sends INFO before the first command of a connection, so that the run id is known before the first vote. */
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
   * Notes that the node replied. Returns an error in place of a reply that came on a later connection than the command
   * was sent on. The caller's client has resent such a command, and the node may have restarted and forgotten its locks
   * in between, so the reply is not a vote.
   */
  #heard(epoch: number): NodeError | undefined {
    this.#silence.end();
    this.#outage.end();
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
}
