import { types } from "node:util";
import type { Environment } from "../environment.js";
import { Abstention, inShort, inWords, NodeError, withoutCommand } from "../errors.js";
import { inFull, type Operation, releaseOperation } from "../operations.js";
import { releaseScript } from "../scripts/release.js";
import type { Script } from "../scripts/script.js";
import type { Client } from "./client.js";
import type { Connection } from "./connection.js";
import { type OwedRelease, OwedReleases } from "./owed.js";

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
  readonly #owed: OwedReleases;
  /** Values whose owed release is on its way. */
  readonly #inPayment = new Set<string>();
  #silence: Silence | undefined;
  #probing = false;
  #awaitingReturn = false;
  #keepsOwed = true;
  #rttMs = 0;
  #unanswered = 0;
  /** Of those without an answer, how many may set a key, or let it live longer. */
  #setting = 0;
  #onIdle: (() => void)[] = [];

  constructor(client: Client, connection: Connection, environment: Environment) {
    this.client = client;
    this.#connection = connection;
    this.#environment = environment;
    this.#owed = new OwedReleases(environment, () => this.#setting === 0);
  }

  get name(): string {
    return this.#connection.name;
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
    if (this.#connection.state === "down") {
      const cause = withoutCommand(this.#connection.failure ?? new Error("Connection is closed."));
      const message = cause.message === "" ? inShort(cause) : cause.message;
      return new NodeError(message, "ERR_REDLOCK_NODE_DOWN", this.name, { cause });
    }
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
  owe(release: OwedRelease, inFlight: boolean): void {
    if (this.#keepsOwed) this.#owed.add(release);
    if (this.#connection.state !== "ready") this.#payOnReturn();
    else if (inFlight || this.#silence === undefined) void this.#payOne(release);
  }

  /** Keeps no owed release any more. */
  forgetOwed(): void {
    this.#keepsOwed = false;
    this.#owed.clear();
  }

  /** Ends the connection once all that was asked is answered. */
  async quit(): Promise<void> {
    if (this.#unanswered > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle.push(resolve);
      });
    }
    await this.#connection.quit();
  }

  disconnect(): void {
    this.#connection.disconnect();
  }

  /**
   * Asks the node. A script that it has not cached is sent in full only while the operation is
   * `undecided`: later it could arrive behind the operation's own release. Rejects with the client's
   * error, without the command's arguments.
   */
  perform(operation: Operation, undecided: () => boolean): Promise<unknown> {
    // Before any vote: a key that is left from before would refuse it.
    if (this.#owed.size > 0) this.#pay();
    const { epoch } = this.#connection;
    const sentMs = this.#environment.monotonicMs();
    this.#sent(operation);
    return this.#connection.send(operation.command, operation.args).then(
      (reply) => {
        this.#settled(operation);
        this.#answered(epoch);
        this.#measure(sentMs);
        return reply;
      },
      (error: unknown) => {
        this.#settled(operation);
        if (isReply(error)) {
          this.#answered(epoch);
          const { script, always } = operation;
          if (script !== undefined && error.message.startsWith("NOSCRIPT")) {
            if (always || undecided()) return this.perform(inFull(operation, script), undecided);
            this.#load(script);
            throw new Abstention(this.name);
          }
        }
        this.#payOnReturn();
        throw withoutCommand(error);
      },
    );
  }

  #sent({ sets }: Operation): void {
    this.#unanswered += 1;
    if (sets !== undefined) this.#setting += 1;
  }

  #settled({ sets }: Operation): void {
    this.#unanswered -= 1;
    if (sets !== undefined) {
      this.#setting -= 1;
      // The node may have done it just now or, where the connection broke, do it yet: a release that was
      // sent behind it may be lost all the same.
      this.#owed.prolong(sets);
    }
    if (this.#unanswered > 0 || this.#onIdle.length === 0) return;
    for (const resolve of this.#onIdle) resolve();
    this.#onIdle = [];
  }

  /** A command resent on a new connection, by the caller's client, may have met a node that forgot: no vote. */
  #answered(epoch: number): void {
    this.#silence = undefined;
    if (this.#owed.size > 0) this.#pay();
    if (epoch === this.#connection.epoch) return;
    throw new NodeError(
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

  /** For the next time. */
  #load(script: Script): void {
    this.#connection.send("script", ["LOAD", script.text]).catch(() => undefined);
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
    this.#connection
      .send("ping", [])
      .then(
        () => {
          this.#answered(epoch);
        },
        (error: unknown) => {
          if (isReply(error)) this.#answered(epoch);
          else this.#payOnReturn();
        },
      )
      .catch(() => undefined)
      .finally(() => {
        this.#probing = false;
      });
  }

  #payOnReturn(): void {
    if (this.#awaitingReturn || this.#owed.size === 0) return;
    if (this.#connection.state === "ready") return;
    this.#awaitingReturn = true;
    this.#connection.opened().then(
      () => {
        this.#awaitingReturn = false;
        this.#pay();
      },
      () => {
        this.#awaitingReturn = false;
        this.#payOnReturn();
      },
    );
  }

  #pay(): void {
    if (this.#connection.state !== "ready") return;
    for (const release of this.#owed) {
      if (!this.#inPayment.has(release.value)) void this.#payOne(release);
    }
  }

  /** In full, not by EVALSHA: a fallback after NOSCRIPT would arrive behind the votes. */
  async #payOne({ keys, value }: OwedRelease): Promise<void> {
    const { command, args } = inFull(releaseOperation(keys, value), releaseScript);
    this.#inPayment.add(value);
    try {
      await this.#connection.send(command, args);
      this.#owed.paid(value);
    } catch (error) {
      if (isReply(error)) this.#owed.paid(value);
      else this.#payOnReturn();
    } finally {
      this.#inPayment.delete(value);
    }
  }
}

function isReply(error: unknown): error is Error {
  return types.isNativeError(error) && error.name === "ReplyError";
}
