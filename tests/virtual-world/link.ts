import type { Argument } from "../../src/operations/operation.js";
import type { ChannelListener, Connection, Subscription } from "../../src/clients/connection.js";
import type { Host } from "./host.js";
import type { SimulatedNode } from "./node.js";
import type { Random } from "./random.js";
import type { Reply } from "../../src/testing/redis/reply.js";
import { SimulatedSubscription } from "./subscription.js";
import { RANK, type World } from "./world.js";

/** How long messages take. */
export interface Weather {
  readonly leastMs: number;
  readonly mostMs: number;
  /** Share of the messages that take up to `straggleMs`. */
  readonly straggling: number;
  readonly straggleMs: number;
  /** Share of the wake-ups that never arrive. */
  readonly lostWakeUps?: number;
}

export type Direction = "up" | "down" | "both";

/** A command on its way, until it is answered. */
interface Pending {
  readonly command: string;
  readonly args: readonly string[];
  readonly epoch: number;
  readonly sentMs: number;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
  readonly onAnswer: ((reply: unknown, sameEpoch: boolean) => void) | undefined;
}

export interface LinkObserver {
  /** A command is sent; gives who is to be told of its answer. */
  onSend(
    link: Link,
    command: string,
    args: readonly string[],
  ): ((reply: unknown, sameEpoch: boolean) => void) | undefined;
}

/** As the hosts draw them, and with an owner. */
const VALUE = /^[a-z]\d+( [!-~]+)?$/;
const CONNECT_TIMEOUT_MS = 1000;
/** ioredis's default `maxRetriesPerRequest`. */
const MOST_RECONNECTIONS = 20;

/**
 * A client's connection to a node, as ioredis behaves on TCP: in order in either direction; what is lost
 * takes all that follows with it until the connection is reset; a connection of our own fails what was
 * unanswered at a reset, one of a caller's ioredis sends it again on the next connection.
 */
export class Link implements Connection {
  readonly name: string;
  readonly host: Host;
  readonly node: SimulatedNode;
  state: Connection["state"] = "connecting";
  epoch = 0;
  openedMs = 0;
  /** True time. */
  readySinceMs = 0;
  readonly isCluster = false;
  failure: Error | undefined;
  readonly renew?: () => void;
  extraDelayMs = 0;
  /** After how many commands sent it is reset. */
  readonly resets = new Set<number>();
  /** Of a client that cannot listen. */
  isMute = false;
  onReset: (() => void) | undefined;
  onResend: (() => void) | undefined;
  /**
   * Values of commands that a server read from a connection that had ended, where the release came
   * earlier, on the next one, or was owed no more when that was made. No client can undo these.
   */
  readonly strays = new Set<string>();
  readonly #world: World;
  readonly #random: Random;
  readonly #weather: Weather;
  readonly #resends: boolean;
  readonly #observer: LinkObserver;
  readonly #subscriptions = new Set<SimulatedSubscription>();
  #sent = 0;
  /** The connection by which a value's last command came. */
  readonly #generationOf = new Map<string, number>();
  #lostFrom = -1;
  /** Of values that came by a connection that had ended. */
  readonly #owedUntilMs = new Map<string, number>();
  #generation = 0;
  #attempt = 0;
  #failures = 0;
  #ended = false;
  #inFlight: Pending[] = [];
  #unsent: Pending[] = [];
  #waiters: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  #lastUpMs = 0;
  #lastDownMs = 0;
  #cutUp = 0;
  #cutDown = 0;
  #held: (() => void)[] = [];
  /** On their way, in order. */
  #replies: { readonly pending: Pending; readonly reply: Reply | Error }[] = [];
  #lostUp = -1;
  #lostDown = -1;

  constructor(
    world: World,
    host: Host,
    node: SimulatedNode,
    random: Random,
    weather: Weather,
    resends: boolean,
    observer: LinkObserver,
  ) {
    this.#world = world;
    this.host = host;
    this.node = node;
    this.name = `node-${node.index + 1}:6379`;
    this.#random = random;
    this.#weather = weather;
    this.#resends = resends;
    this.#observer = observer;
    if (!resends) {
      this.renew = () => {
        this.#log("renews the connection");
        this.reset();
      };
    }
    world.after(0, this.#connect, host);
  }

  get keyspace(): string {
    return this.name;
  }

  /** Commands without an answer. */
  get pending(): number {
    return this.#inFlight.length + this.#unsent.length;
  }

  /** For how long the oldest command has been without an answer, in ms. */
  get silentMs(): number {
    const [oldest] = this.#inFlight;
    return oldest === undefined ? 0 : this.#world.nowMs - oldest.sentMs;
  }

  /** All that was asked is answered, and it is open, or ended. */
  get isSettled(): boolean {
    return this.pending === 0 && (this.state === "ready" || this.#ended);
  }

  send(command: string, args: readonly Argument[]): Promise<unknown> {
    this.host.meet();
    const texts = args.map(String);
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        command,
        args: texts,
        epoch: this.epoch,
        sentMs: this.host.timeMs,
        resolve,
        reject,
        onAnswer: this.#observer.onSend(this, command, texts),
      };
      if (this.state === "ready") this.#transmit(pending);
      else if (this.#resends && !this.#ended) this.#unsent.push(pending);
      else reject(new Error("Connection is closed."));
    });
  }

  opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
    });
  }

  subscribe(channel: string, listener: ChannelListener): Subscription | undefined {
    if (this.isMute) return undefined;
    const way = {
      delayMs: () => this.#delayMs(),
      isCut: () => this.#cutDown > 0,
      losesMessage: () => {
        const { lostWakeUps = 0 } = this.#weather;
        return lostWakeUps > 0 && this.#random.chance(lostWakeUps);
      },
    };
    const { host, node } = this;
    const made = new SimulatedSubscription(this.#world, host, node, way, channel, listener);
    this.#subscriptions.add(made);
    return {
      close: () => {
        this.#subscriptions.delete(made);
        made.close();
      },
    };
  }

  /** The subscriptions die without a word. */
  forgetSubscriptions(): void {
    for (const subscription of this.#subscriptions) subscription.forget();
  }

  async quit(): Promise<void> {
    if (this.state === "ready") await this.send("quit", []);
    this.disconnect();
  }

  disconnect(): void {
    this.#ended = true;
    this.reset();
  }

  /** The connection breaks; the client sees it a moment later. */
  reset(): void {
    const generation = this.#generation;
    this.#world.at(
      this.host.timeMs + this.#random.between(0, this.#weather.leastMs),
      () => {
        if (this.#generation === generation) this.#close(new Error("Connection is closed."));
      },
      this.host,
    );
  }

  cut(direction: Direction): void {
    if (direction !== "down") this.#cutUp += 1;
    if (direction !== "up") this.#cutDown += 1;
  }

  heal(direction: Direction): void {
    if (direction !== "down") this.#cutUp -= 1;
    if (direction !== "up") this.#cutDown -= 1;
    const held = this.#held;
    this.#held = [];
    for (const message of held) message();
  }

  /** All that is sent in this direction from now on is lost, until the connection is reset. */
  lose(direction: Direction): void {
    if (direction !== "down") this.#lostUp = this.#generation;
    if (direction !== "up") this.#lostDown = this.#generation;
  }

  #transmit(pending: Pending): void {
    this.#inFlight.push(pending);
    const generation = this.#generation;
    const { incarnation } = this.node;
    if (this.#world.traced) this.#log(`→ ${this.node.name}: ${inShort(pending)}`);
    this.#sent += 1;
    if (this.resets.has(this.#sent)) {
      this.onReset?.();
      this.reset();
    }
    this.#lastUpMs = Math.max(this.#lastUpMs, this.host.timeMs + this.#delayMs());
    const arrive = (): void => {
      if (this.#cutUp > 0) this.#held.push(arrive);
      else if (this.#lostUp !== generation) {
        this.node.receive(() => {
          if (this.node.incarnation === incarnation) this.#execute(generation, pending);
        });
      }
    };
    this.#world.at(this.#lastUpMs, arrive);
  }

  #execute(generation: number, pending: Pending): void {
    const isStray = generation !== this.#generation;
    if (isStray && !this.#isReadAfterReset(generation, pending)) return;
    if (!isStray) {
      for (const { value } of claimsIn(pending)) this.#generationOf.set(value, generation);
    }
    const reply = this.#replyOf(pending);
    if (this.#world.traced) {
      this.#world.log(
        this.node.name,
        `${this.host.name}'s ${inShort(pending)} = ${reply instanceof Error ? reply.message : JSON.stringify(reply)}`,
      );
    }
    if (isStray) return;
    this.#replies.push({ pending, reply });
    this.#lastDownMs = Math.max(this.#lastDownMs, this.#world.nowMs + this.#delayMs());
    const arrive = (): void => {
      if (this.#generation !== generation || this.#lostDown === generation) return;
      if (this.#cutDown > 0) this.#held.push(onHost);
      else this.#answerNext();
    };
    const onHost = (): void => {
      this.#world.after(0, arrive, this.host);
    };
    this.#world.at(this.#lastDownMs, arrive, this.host);
  }

  /** What was sent before a reset may have reached the server's socket, up to some command. */
  #isReadAfterReset(generation: number, pending: Pending): boolean {
    if (this.#lostFrom === generation || this.#random.chance(0.5)) {
      this.#lostFrom = generation;
      return false;
    }
    for (const { value, ttlMs } of claimsIn(pending)) {
      const isOvertaken = (this.#generationOf.get(value) ?? 0) > generation;
      const owedUntilMs = pending.sentMs + 0.98 * ttlMs;
      if (isOvertaken || this.#world.nowMs > owedUntilMs) this.strays.add(value);
      else this.#owedUntilMs.set(value, owedUntilMs);
    }
    return true;
  }

  #replyOf({ command, args }: Pending): Reply | Error {
    try {
      return this.node.execute(command, args);
    } catch (error) {
      if (error instanceof Error && error.name === "ReplyError") return error;
      throw error;
    }
  }

  #answerNext(): void {
    const next = this.#replies.shift();
    const asked = this.#inFlight.shift();
    if (next === undefined || next.pending !== asked) {
      throw new Error("the simulated connection mixed up its replies");
    }
    const { pending, reply } = next;
    if (this.#world.traced) {
      this.#log(
        `← ${this.node.name}: ${reply instanceof Error ? reply.message : JSON.stringify(reply)} to ${inShort(pending)}`,
      );
    }
    pending.onAnswer?.(reply, pending.epoch === this.epoch);
    if (reply instanceof Error) pending.reject(reply);
    else pending.resolve(reply);
  }

  #close(failure: Error): void {
    for (const subscription of this.#subscriptions) {
      if (this.#ended) subscription.close();
      else subscription.break();
    }
    this.#generation += 1;
    this.#lastUpMs = 0;
    this.#lastDownMs = 0;
    this.state = "down";
    this.failure = failure;
    this.#log(`loses its connection to ${this.node.name}`);
    this.#unsent.unshift(...this.#inFlight);
    this.#inFlight = [];
    this.#replies = [];
    if (!this.#resends || this.#ended) this.#failUnsent(new Error("Connection is closed."));
    this.#retreat(failure);
  }

  #failUnsent(error: Error): void {
    const unsent = this.#unsent;
    this.#unsent = [];
    for (const { reject } of unsent) reject(error);
  }

  /** Tells those who wait for the connection, and tries again later. */
  #retreat(failure: Error): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { reject } of waiters) reject(failure);
    if (this.#ended) return;
    this.#failures += 1;
    if (this.#failures % (MOST_RECONNECTIONS + 1) === 0) {
      this.#failUnsent(new Error("Reached the max retries per request limit (which is 20)."));
    }
    this.#world.after(Math.min(50 * this.#failures, 500), this.#connect, this.host, RANK.timer);
  }

  readonly #connect = (): void => {
    if (this.state === "ready" || this.#ended) return;
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.#later(attempt, 2 * this.#delayMs(), () => {
      this.#shakeHands(attempt);
    });
  };

  /** Goes on with this attempt to connect, unless another has begun. */
  #later(attempt: number, delayMs: number, run: () => void): void {
    this.#world.after(
      delayMs,
      () => {
        if (this.#attempt === attempt && this.state !== "ready" && !this.#ended) run();
      },
      this.host,
    );
  }

  #shakeHands(attempt: number): void {
    if (this.#cutUp > 0 || this.#cutDown > 0) {
      this.#later(attempt, CONNECT_TIMEOUT_MS, () => {
        this.#refused("ETIMEDOUT");
      });
    } else if (this.node.down) this.#refused("ECONNREFUSED");
    else if (this.node.paused) {
      this.node.receive(() => {
        this.#later(attempt, this.#delayMs(), () => {
          this.#shakeHands(attempt);
        });
      });
      // A node that crashes while it is paused answers nobody.
      this.#later(attempt, 3 * CONNECT_TIMEOUT_MS, this.#connect);
    } else this.#open();
  }

  #refused(code: string): void {
    this.state = "down";
    this.failure = Object.assign(new Error(`connect ${code} ${this.name}`), { code });
    this.#retreat(this.failure);
  }

  #open(): void {
    this.state = "ready";
    this.failure = undefined;
    this.#failures = 0;
    this.epoch += 1;
    this.openedMs = this.host.monotonicAt(this.host.timeMs);
    this.readySinceMs = this.#world.nowMs;
    this.#generation += 1;
    this.#log(`is connected to ${this.node.name}`);
    for (const [value, untilMs] of this.#owedUntilMs) {
      if (this.#world.nowMs > untilMs) this.strays.add(value);
    }
    const unsent = this.#unsent;
    this.#unsent = [];
    for (const pending of unsent) {
      if (pending.epoch > 0 && pending.epoch < this.epoch) this.onResend?.();
      this.#transmit(pending);
    }
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { resolve } of waiters) resolve();
  }

  #delayMs(): number {
    const { leastMs, mostMs, straggling, straggleMs } = this.#weather;
    const usualMs = this.#random.between(leastMs, mostMs);
    const isLate = this.#random.chance(straggling);
    return usualMs + this.extraDelayMs + (isLate ? this.#random.between(0, straggleMs) : 0);
  }

  #log(what: string): void {
    if (this.#world.traced) this.#world.log(this.host.name, what, this.host.timeMs);
  }
}

/** The values that a command is about, each with its ttl; NaN for a release. */
function claimsIn({ args }: Pending): { readonly value: string; readonly ttlMs: number }[] {
  const texts = args.flatMap((arg) =>
    arg.startsWith("[") ? (JSON.parse(arg) as (string | number)[]).map(String) : [arg],
  );
  return texts.flatMap((value, index) => {
    if (!VALUE.test(value)) return [];
    const [next, , behind] = texts.slice(index + 1);
    return [{ value, ttlMs: Number(next === "NX" ? behind : next) }];
  });
}

function inShort({ command, args }: Pending): string {
  // A script's text or name is its first argument.
  const [script = "", ...rest] = args;
  if (command === "eval" || command === "evalsha" || command === "script") {
    const name = command === "evalsha" ? script.slice(0, 6) : "…";
    return `${command.toUpperCase()} ${name} ${command === "script" ? "" : rest.join(" ")}`;
  }
  return `${command.toUpperCase()} ${args.join(" ")}`.trim();
}
