import type { NodeEntry } from "../../src/nodes/entries.js";
import type { Lock } from "../../src/lock.js";
import type { ExecutionResult, ExecutionStats } from "../../src/quorum/results.js";
import type { Redlock } from "../../src/redlock.js";
import type { Settings } from "../../src/settings.js";
import { Checker, isTold, slotKey, type Tracked } from "./checker.js";
import { isValue, readersOf } from "./readers.js";
import { Violation } from "./violation.js";
import { Host } from "../virtual-world/host.js";
import type { Library } from "../virtual-world/library.js";
import { type Direction, Link } from "../virtual-world/link.js";
import { SimulatedNode } from "../virtual-world/node.js";
import type { CallSettings, Fault, Handling, Plan, Step } from "./plan.js";
import { Random } from "../virtual-world/random.js";
import { stepWatched } from "./watchdog.js";
import { World } from "../virtual-world/world.js";

/** What came of a schedule. */
export interface Outcome {
  readonly violation: Violation | undefined;
  readonly events: number;
  /** What was done and what happened, by name. */
  readonly counts: ReadonlyMap<string, number>;
  readonly trace: readonly string[];
}

/** More than this many events is no end. */
const MOST_EVENTS = 100_000;
/** How often it is looked whether every connection is open again and every command answered. */
const SETTLE_MS = 100;
/** After the last fault and the last call, they are within this. */
const LONGEST_SETTLING_MS = 60_000;
/** So many attempts find a majority that answers, if there is one, however messages straggle. */
const ENOUGH_ATTEMPTS = 300;
/** What a count's name begins with where it counts a fault. */
export const FAULT_MARK = "fault: ";
const WAYS: Record<Direction, string> = {
  up: "requests",
  down: "replies",
  both: "both",
};
/** What the name of a key with a fencing token ends with. */
const FENCE_MARK = ":fence";
/** What the name of a readers' set ends with, after that of its lock's key in braces. */
const SET_MARK = ":redlock:shared";
const DAY_MS = 86_400_000;
/** No clock is ahead of another by more. */
const MOST_APART_MS = 1_000_000;
/** The library's own, for calls without a ttl. */
const NODE_TIMEOUT_WITHOUT_TTL_MS = 250;
/** The library's own: subscriptions are closed so long after the last waiter. */
const SUBSCRIPTION_IDLE_MS = 5000;
/** The library's own: for so long, at most, a key is kept for who is next. */
const LONGEST_GRACE_MS = 1000;
/** Of a vote, what is sent again in full, and the gift of the key, itself sent again in full. */
const MOST_MESSAGES_TO_GIVE = 10;
/** A call may be late by this: its timers are, and it may go round the event loop once more. */
const LATE_MS = 5;

/** Runs a plan on the library. The same plan gives the same outcome, to the last event. */
export function run(plan: Plan, library: Library, traced = false): Outcome {
  const simulation = new Simulation(plan, library, traced);
  const violation = simulation.run();
  return {
    violation,
    events: simulation.world.events,
    counts: simulation.counts,
    trace: simulation.world.trace,
  };
}

interface Client {
  readonly host: Host;
  readonly redlock: Redlock;
  readonly links: readonly Link[];
  /** Whether it began to close its Redlock. */
  closed: boolean;
  /** The host's turn in which it first began to. */
  closedTurn: number | undefined;
  /** How often it began to. */
  closings: number;
  /** By the host's monotonic clock: until then what is held may stay, unless something else closes the Redlock. */
  drainUntilMs: number;
  /** What it held when it began to close. */
  heldAtClosing: ReadonlySet<Tracked>;
  /** For each node: when a fault last reset the connection to it, in true time. */
  readonly resetMs: Map<number, number>;
}

/** One run of a leader's routine. */
interface Term {
  hasEnded: boolean;
  /** It was told, and had not resigned. */
  isLost: boolean;
}

/** What a leader's routine is given, with the terms of its call so far. */
interface Election {
  readonly terms: Term[];
  readonly signal: AbortSignal;
  readonly lock: Lock;
  readonly resignation: AbortController;
}

/** What a call of the library's rejects with. */
type Failure = Error & { readonly code?: unknown; readonly attempts?: readonly unknown[] };

class Simulation {
  readonly world: World;
  readonly counts = new Map<string, number>();
  readonly #plan: Plan;
  /** The attempts of ended calls in which some node has not voted yet. */
  readonly #uncounted = new Map<Promise<ExecutionStats>, Host>();
  readonly #checker: Checker;
  readonly #nodes: readonly SimulatedNode[];
  readonly #clients: readonly Client[];
  readonly #rejections: unknown[] = [];
  /** For each node: how many faults disturb it, or a connection to it; when the last ended; when it lost its data. */
  readonly #disturbances: { count: number; untilMs: number; lostDataMs: number }[];
  #faultsLeft = 0;
  /** Whether no fault has begun yet. */
  #isCalm = true;
  #settlingFromMs: number | undefined;
  readonly #longestWaitMs: number;
  readonly #longestTtlMs: number;
  readonly #longestNodeTimeoutMs: number;
  readonly #leastNodeTimeoutMs: number;
  /** In line, or as one for whom a key is kept. */
  readonly #longestStandingMs: number;
  #failure: Error | undefined;
  /** Adopted values are two hosts': what is left of them may be the other's. */
  readonly #shared = new Set<string>();

  constructor(plan: Plan, library: Library, traced: boolean) {
    this.#plan = plan;
    this.world = new World(traced);
    this.#checker = new Checker(this.world, library, plan.nodes.length);
    this.#checker.isGuarded = plan.restartGuardMs !== undefined;
    this.#checker.onBatch = () => {
      this.#count("calls of several operations");
    };
    this.#nodes = plan.nodes.map((clock, index) => new SimulatedNode(this.world, index, clock));
    for (const node of this.#nodes) node.onExecute = this.#checker.onExecute;
    this.#checker.nodes = this.#nodes;
    this.#disturbances = this.#nodes.map(() => ({ count: 0, untilMs: 0, lostDataMs: -1 }));
    this.#clients = plan.clients.map((_, index) => this.#client(index, library));
    for (const fault of plan.faults) this.#schedule(fault);
    const steps = plan.clients.flatMap(({ programs }) => programs.flat());
    this.#longestTtlMs = Math.max(0, ...steps.map((step) => ("ttlMs" in step ? step.ttlMs : 0)));
    this.#longestNodeTimeoutMs = Math.max(
      NODE_TIMEOUT_WITHOUT_TTL_MS,
      ...steps.map((step) =>
        "settings" in step ? nodeTimesMs(step.settings, this.#longestTtlMs).mostMs : 0,
      ),
    );
    this.#leastNodeTimeoutMs = Math.min(
      NODE_TIMEOUT_WITHOUT_TTL_MS,
      ...steps.map((step) =>
        "settings" in step
          ? nodeTimesMs(step.settings, "ttlMs" in step ? step.ttlMs : 0).leastMs
          : Infinity,
      ),
    );
    this.#longestWaitMs = longestWaitMs(plan);
    const pollsMs = steps.map((step) =>
      "settings" in step ? step.settings.retryDelay + step.settings.retryJitter : 0,
    );
    this.#longestStandingMs =
      Math.max(...pollsMs) + 2 * this.#longestNodeTimeoutMs + LONGEST_GRACE_MS;
  }

  run(): Violation | undefined {
    const onRejection = (reason: unknown): void => {
      this.#rejections.push(reason);
    };
    process.on("unhandledRejection", onRejection);
    try {
      this.#start();
      this.world.onBefore = (actor) => {
        this.#checker.before(actor);
      };
      this.world.onAfter = (actor) => {
        this.#checker.after(actor);
        this.#raise();
        this.#settleWhenQuiet();
      };
      stepWatched(`the schedule of seed ${this.#plan.seed}`, () => {
        if (this.world.events > MOST_EVENTS) {
          throw new Violation("an end", `not after ${MOST_EVENTS} events`);
        }
        return this.world.step();
      });
      this.#checkEnd();
      return undefined;
    } catch (error) {
      const violation = asViolation(error);
      this.world.log("VIOLATION", violation.message);
      return violation;
    } finally {
      process.off("unhandledRejection", onRejection);
    }
  }

  #count(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  #client(index: number, library: Library): Client {
    const { seed, clients, nodes, weather, meetingCostMs } = this.#plan;
    const plan = clients[index];
    if (plan === undefined) throw new Error("a client without a plan");
    const host = new Host(
      this.world,
      index,
      new Random(seed, 100 + index),
      plan.clocks,
      meetingCostMs,
    );
    host.onPause = (ms) => {
      this.#isCalm = false;
      this.#count(`${FAULT_MARK}pause or suspension of a client`);
      this.world.log(host.name, `is paused for ${ms.toFixed(1)} ms`, host.timeMs);
    };
    const links = this.#nodes.map(
      (node) =>
        new Link(
          this.world,
          host,
          node,
          new Random(seed, 1000 + index * nodes.length + node.index),
          weather,
          plan.resends,
          this.#checker,
        ),
    );
    const checkNode = (entry: NodeEntry) => {
      const link = links[Number(entry)];
      if (link === undefined) throw new Error("no such node");
      const client = { name: link.name, url: `redis://${link.name}` };
      return { client, own: !plan.resends, connect: () => link };
    };
    for (const link of links) {
      link.isMute = this.#plan.mute?.includes(index) ?? false;
      link.onResend = () => {
        this.#count(`${FAULT_MARK}command sent again on a new connection`);
      };
    }
    const redlock = new library.Redlock(
      links.map((_, node) => String(node)),
      {
        queue: this.#plan.queue ?? false,
        restartGuard: this.#plan.restartGuardMs ?? false,
        owner: plan.owner ?? "",
        [library.internalsKey]: { environment: host.environment, checkNode },
        fencing: this.#plan.fencing ?? false,
      },
    );
    return {
      host,
      redlock,
      links,
      closed: false,
      closedTurn: undefined,
      closings: 0,
      drainUntilMs: 0,
      heldAtClosing: new Set(),
      resetMs: new Map(),
    };
  }

  #start(): void {
    for (const [index, client] of this.#clients.entries()) {
      for (const program of this.#plan.clients[index]?.programs ?? []) {
        this.#launch(client, 0, () => this.#program(client, program));
      }
    }
  }

  /** Runs something on the client's machine; what it throws ends the simulation. */
  #launch({ host }: Client, afterMs: number, body: () => Promise<void>): void {
    if (host.dead) return;
    host.running += 1;
    this.world.after(
      afterMs,
      () => {
        body().then(
          () => {
            host.running -= 1;
          },
          (error: unknown) => {
            this.#failure ??= error instanceof Error ? error : new Error(String(error));
          },
        );
      },
      host,
    );
  }

  #raise(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#rejections.length > 0) {
      throw new Violation("unhandled rejection", String(this.#rejections[0]));
    }
  }

  async #program(client: Client, steps: readonly Step[]): Promise<void> {
    let mine: Tracked | undefined;
    const watched = new Set<Tracked>();
    for (const step of steps) {
      if (step.afterMs > 0) await client.host.sleep(step.afterMs);
      mine = await this.#step(client, step, mine);
      if (mine?.signal !== undefined) watched.add(mine);
    }
    // As long as its signal is watched, a lock has a timer.
    for (const { lock } of watched) {
      while (lock.valid) await client.host.sleep(lock.remaining);
    }
  }

  async #step(client: Client, step: Step, mine: Tracked | undefined): Promise<Tracked | undefined> {
    switch (step.kind) {
      case "acquire":
        return (await this.#acquire(client, step)) ?? mine;
      case "tryAcquire":
        return (await this.#tryAcquire(client, step)) ?? mine;
      case "use":
        await this.#use(client, step);
        return mine;
      case "extend":
        if (mine === undefined) await this.#inspect(client);
        else await this.#extend(client, mine, step.ttlMs, step.settings);
        return mine;
      case "release":
        if (mine === undefined) await this.#inspect(client);
        else await this.#release(client, mine, step.settings);
        return mine;
      case "handOver":
        if (mine?.lock.valid === true && !mine.released && !mine.isKept) {
          this.#handOver(client, mine, step);
          return undefined;
        }
        await this.#inspect(client);
        return mine;
      case "forceRelease":
        await this.#forceRelease(client, step);
        return mine;
      case "lead":
        await this.#lead(client, step);
        return mine;
      case "close":
        await this.#close(client, step);
        return mine;
    }
  }

  /** Runs a call and holds it to its budget, which its host's pauses extend. */
  async #call<T>(
    client: Client,
    what: string,
    budget: number | (() => number),
    body: () => Promise<T>,
  ): Promise<T | Failure> {
    const { host } = client;
    const startMs = host.monotonicAt(host.timeMs);
    const { pausedMs } = host;
    this.#count(what.split(" ")[0] ?? "");
    this.world.log(host.name, what, host.timeMs);
    const outcome = await body().catch((error: unknown) =>
      error instanceof Error ? error : new Error(String(error)),
    );
    const tookMs = host.monotonicAt(host.timeMs) - startMs;
    // The nodes' time begins at the end of a turn; and a call that is due goes on behind what its host is at, turn by turn.
    const restlessMs = Math.max(host.longestTurnMs, host.timeMs - host.busySinceMs);
    const busyMs = host.pausedMs - pausedMs + restlessMs;
    const budgetMs = typeof budget === "number" ? budget : budget();
    const allowedMs = budgetMs + LATE_MS + 1.01 * busyMs;
    this.world.log(host.name, `${what}: ${inWords(outcome)}`, host.timeMs);
    if (tookMs > allowedMs) {
      throw new Violation(
        "budget",
        `${host.name} ${what} took ${tookMs.toFixed(1)} ms, allowed ${allowedMs.toFixed(1)} ms`,
      );
    }
    if (outcome instanceof Error) this.#checkError(client, what, outcome);
    this.#watchVotes(host, outcome);
    return outcome;
  }

  /** Each attempt tells in the end how every node voted. */
  #watchVotes(host: Host, outcome: unknown): void {
    const { attempts = [] } = (outcome ?? {}) as Partial<ExecutionResult>;
    for (const attempt of attempts) {
      this.#uncounted.set(attempt, host);
      void attempt.then(({ membershipSize, votesFor, votesAgainst }) => {
        this.#uncounted.delete(attempt);
        const count = votesFor.size + votesAgainst.size;
        if (count === membershipSize) return;
        this.#checker.break(
          new Violation(
            "one vote a node",
            `an attempt of ${host.name} ended with ${count} votes of ${membershipSize} nodes`,
          ),
        );
      });
    }
  }

  #checkError({ closed }: Client, what: string, error: Error): void {
    if (error instanceof Violation) throw error;
    const { code } = error as { code?: unknown };
    const known =
      typeof code === "string" &&
      code.startsWith("ERR_REDLOCK_") &&
      (closed || code !== "ERR_REDLOCK_CLOSED");
    if (!known && error.message !== "cancelled") {
      throw new Violation("errors", `${what} threw ${error.name}: ${error.message}`);
    }
    this.#count(`${what.split(" ")[0] ?? ""} refused: ${known ? code.slice(12) : "cancelled"}`);
  }

  #acquireBudgetMs(settings: CallSettings, ttlMs: number): number {
    const { mostMs } = nodeTimesMs(settings, ttlMs);
    const { acquireTimeout, retryCount } = settings;
    if (acquireTimeout === undefined) {
      return retryCount === -1 ? this.#longestWaitMs : retryBudgetMs(settings, mostMs);
    }
    return acquireTimeout === 0 ? mostMs : acquireTimeout;
  }

  async #acquire(client: Client, step: Step & { kind: "acquire" }): Promise<Tracked | undefined> {
    const { resources, ttlMs, settings, cancelAfterMs, handling } = step;
    const controller = new AbortController();
    if (cancelAfterMs !== undefined) {
      this.world.after(
        cancelAfterMs,
        () => {
          this.#count("cancellation");
          controller.abort(new Error("cancelled"));
        },
        client.host,
      );
    }
    const outcome = await this.#taking(client, () =>
      this.#call(
        client,
        `acquire ${resources.join(", ")} for ${ttlMs} ms`,
        Math.min(this.#acquireBudgetMs(settings, ttlMs), (cancelAfterMs ?? Infinity) * 1.01),
        () =>
          client.redlock.acquire(resources, ttlMs, {
            ...settings,
            ...settingsOf(handling),
            shared: step.shared ?? false,
            signal: controller.signal,
          }),
      ),
    );
    if (outcome instanceof Error) return undefined;
    this.#count(step.shared === true ? "acquired, to read" : "acquired");
    return this.#handle(client, outcome, step);
  }

  /** What a program does with a lock that it has just acquired. */
  async #handle(
    client: Client,
    lock: Lock,
    { settings, ttlMs, handling }: Step & { kind: "acquire" | "tryAcquire" },
  ): Promise<Tracked> {
    const { host } = client;
    const tracked = this.#track(client, lock, settings, nodeTimesMs(settings, ttlMs));
    if (handling === undefined) return tracked;
    const { signalAfterMs, holdMs, heedsSignal, autoExtend, maxHoldMs, isLeft } = handling;
    tracked.isKept = autoExtend;
    tracked.maxHoldMs = maxHoldMs;
    if (signalAfterMs > 0) await host.sleep(signalAfterMs);
    const { signal } = lock;
    tracked.signal = signal;
    this.#count(
      autoExtend ? "lock.signal of a lock with autoExtend" : "lock.signal of a plain lock",
    );
    if (!lock.valid && !isTold(signal)) {
      throw new Violation(
        "loss in time",
        `${host.name} reads a signal of ${lock.value} that knows no loss`,
      );
    }
    await this.#hold(host, signal, holdMs, heedsSignal);
    this.#checker.checkTold(tracked);
    if (isTold(signal)) this.#count("lock.signal: loss told");
    this.#checkKept(client, tracked, ttlMs, settings);
    // A release that retries without end could take any time.
    const releaseSettings = { ...settings, retryCount: Math.max(0, settings.retryCount) };
    if (!isLeft) await this.#release(client, tracked, releaseSettings);
    return tracked;
  }

  /** Without any fault, a lock that the library extends is not lost. */
  #checkKept(
    { host, closed }: Client,
    tracked: Tracked,
    ttlMs: number,
    settings: CallSettings,
  ): void {
    const { mostMs, straggling } = this.#plan.weather;
    const { lock, signal, isKept, maxHoldMs } = tracked;
    const roundTripMs = 2 * mostMs + host.longestTurnMs;
    const isEasy =
      this.#isCalm &&
      straggling === 0 &&
      nodeTimesMs(settings, ttlMs).leastMs > 2 * roundTripMs + LATE_MS &&
      ttlMs > 20 * roundTripMs + 10 * LATE_MS;
    if (!isEasy || !isKept || maxHoldMs !== undefined || closed) return;
    if (this.#checker.wasForced(lock.value)) return;
    this.#count("kept locks looked at before any fault");
    if (signal !== undefined && isTold(signal)) {
      throw new Violation("kept", `${host.name} lost ${lock.value}, which nothing disturbed`);
    }
  }

  #track(
    client: Client,
    lock: Lock,
    settings: CallSettings,
    timesMs: NodeTimes,
    isLossTold = false,
  ): Tracked {
    const { host, closedTurn = Infinity } = client;
    if (host.turn > closedTurn) {
      throw new Violation("closed", `${host.name} was given ${lock.value} after its end had begun`);
    }
    const { permits } = settings;
    if (
      (lock.permit ?? -1) >= (permits ?? 0) ||
      (permits === undefined) !== (lock.permit === undefined)
    ) {
      throw new Violation("permits", `${host.name} was given permit ${lock.permit} of ${permits}`);
    }
    const tracked = this.#checker.track(host, lock, false, timesMs, isLossTold);
    this.#expectOnEveryNode(client, tracked);
    return tracked;
  }

  /**
   * A lock that is held is soon on every node that can be asked: a bare quorum is lost with one node. Nodes are
   * left out that a fault disturbed meanwhile, that lost their data, that held another's key when they were last
   * asked, whose connection broke since the grant, or to which a command is on its way that may be
   * late: the key may have expired before it.
   */
  #expectOnEveryNode(client: Client, tracked: Tracked): void {
    const { host, links } = client;
    const { value } = tracked.lock;
    const { mostMs, straggleMs, straggling } = this.#plan.weather;
    const oneWayMs = mostMs + (straggling > 0 ? straggleMs : 0);
    const { pausedMs } = host;
    const epochs = links.map(({ state, epoch }) => (state === "ready" ? epoch : epoch + 1));
    const soonMs =
      MOST_MESSAGES_TO_GIVE * oneWayMs + tracked.nodeTimeoutMs + LATE_MS + 5 * host.longestTurnMs;
    const check = (): void => {
      const sinceMs = this.world.nowMs - soonMs;
      if (client.closed || tracked.released || !this.#checker.believes(tracked)) return;
      if (host.pausedMs > pausedMs) return;
      for (const [index, node] of this.#nodes.entries()) {
        const { redis, clockMs, name } = node;
        const link = links[index];
        const isAsked =
          link?.state === "ready" &&
          link.epoch === epochs[index] &&
          link.readySinceMs <= sinceMs &&
          (straggling > 0 ? link.pending === 0 : link.silentMs < tracked.nodeTimeoutMs);
        const disturbance = this.#disturbances[index];
        const isDisturbed =
          disturbance === undefined ||
          disturbance.count > 0 ||
          disturbance.untilMs > sinceMs ||
          disturbance.lostDataMs > this.#checker.startMs(value);
        const isTaken =
          this.#checker.wasRefused(value, host, node) || this.#checker.wasForced(value);
        if (!isAsked || isDisturbed || isTaken) continue;
        this.#count("held locks looked for on a node");
        const { shared } = tracked.lock;
        const missing = tracked.resources.find((key) => {
          const readers = shared && readersOf(redis, clockMs, key, `{${key}}${SET_MARK}`);
          if (readers) return !readers.has(value);
          return redis.peek(key, clockMs) === undefined;
        });
        if (missing !== undefined) {
          throw new Violation(
            "every node",
            `${name} does not hold ${missing} of ${value}, ${soonMs.toFixed(1)} ms after the grant`,
          );
        }
      }
    };
    for (const times of [1, 3]) this.world.at(host.timeMs + times * soonMs, check);
  }

  /** A call that begins on a closed Redlock is refused for that. */
  async #taking<T>(client: Client, call: () => Promise<T | Error>): Promise<T | Error> {
    const { closed } = client;
    const outcome = await call();
    if (closed && (outcome as { code?: unknown } | null)?.code !== "ERR_REDLOCK_CLOSED") {
      throw new Violation(
        "closed",
        `${client.host.name} was given ${inWords(outcome)} after its end`,
      );
    }
    return outcome;
  }

  async #inspect(client: Client): Promise<void> {
    await this.#call(client, "inspect", NODE_TIMEOUT_WITHOUT_TTL_MS, () =>
      client.redlock.inspect("r"),
    );
  }

  /** An operator ends whatever locks there are. */
  async #forceRelease(
    client: Client,
    { resources, permits }: Step & { kind: "forceRelease" },
  ): Promise<void> {
    const outcome = await this.#call(
      client,
      `forceRelease ${resources.join(", ")}`,
      NODE_TIMEOUT_WITHOUT_TTL_MS,
      () => client.redlock.forceRelease(resources, { permits }),
    );
    if (outcome instanceof Error) return;
    for (const { resource, permit, value, nodes } of outcome) {
      this.#count(permit === undefined ? "locks ended by force" : "permits ended by force");
      const key = permit === undefined ? resource : slotKey(resource, permit);
      for (const node of nodes) {
        const name = this.#nodes.find((_, index) => client.links[index]?.name === node)?.name;
        if (this.#checker.wasForced(value, key, name)) continue;
        throw new Violation("force", `${value} on ${key} was not ended on ${node}, as was said`);
      }
    }
  }

  async #close(
    client: Client,
    { how, drainMs = 0 }: Step & { readonly kind: "close" },
  ): Promise<void> {
    const { host, redlock } = client;
    const startMs = host.monotonicAt(host.timeMs);
    client.closed = true;
    client.closedTurn ??= host.turn;
    client.closings += 1;
    client.drainUntilMs = client.closings === 1 && drainMs > 0 ? startMs + drainMs : 0;
    const held = (): Tracked[] =>
      this.#checker.tracked.filter(
        (each) => each.host === host && !each.handedOver && each.monotonicEndMs !== 0,
      );
    const before = new Set(held());
    client.heldAtClosing = before;
    const lookAtNodes = this.#drainedNodes(client);
    const budget = (): number => {
      const passedOn = this.#checker.tracked.filter(
        (each) => each.host === host && each.handedOver,
      );
      const endsMs = [...held(), ...passedOn].map(
        ({ endedMs = Infinity, monotonicEndMs }) => Math.min(endedMs, monotonicEndMs) - startMs,
      );
      return NODE_TIMEOUT_WITHOUT_TTL_MS + Math.min(drainMs, Math.max(0, ...endsMs));
    };
    const outcome = await this.#call(client, drainMs > 0 ? "drain" : how, budget, () => {
      if (drainMs > 0) return redlock.quit({ drain: drainMs });
      return how === "quit" ? redlock.quit() : redlock[Symbol.asyncDispose]();
    });
    if (outcome instanceof Error) return;
    for (const tracked of held()) {
      this.#checker.refresh(tracked);
      if (tracked.ended || !(drainMs > 0 || tracked.isKept)) continue;
      // The first extension of an adopted lock may be on its way, and granted while the connections close.
      if (tracked.adopted && !before.has(tracked)) continue;
      throw new Violation("closed", `${host.name} still holds ${tracked.lock.value} after its end`);
    }
    if (client.closings > 1 || drainMs === 0) return;
    const tookMs = host.monotonicAt(host.timeMs) - startMs;
    const ended = held().find(({ lock }) => isLossByClosing(lock));
    if (ended !== undefined && tookMs < drainMs - LATE_MS) {
      throw new Violation(
        "drain",
        `${host.name} ended ${ended.lock.value} after ${tookMs.toFixed(1)} ms of a drain of ${drainMs} ms`,
      );
    }
    lookAtNodes();
  }

  /** What is called after a drain: then no node that could be asked all the time may have a key of the client's. */
  #drainedNodes({ host, links, resetMs }: Client): () => void {
    const { nowMs } = this.world;
    const { pausedMs } = host;
    const epochs = links.map(({ state, epoch }) => (state === "ready" ? epoch : -1));
    const incarnations = this.#nodes.map(({ incarnation }) => incarnation);
    const { mostMs, straggling } = this.#plan.weather;
    return () => {
      const roundTripMs = 2 * mostMs + host.longestTurnMs;
      const isSlow = straggling > 0 || this.#leastNodeTimeoutMs < 2 * roundTripMs + LATE_MS;
      if (isSlow || host.pausedMs > pausedMs) return;
      for (const [index, node] of this.#nodes.entries()) {
        const { name, incarnation } = node;
        const { count = 1, untilMs = 0 } = this.#disturbances[index] ?? {};
        const isWhole =
          count === 0 &&
          untilMs < nowMs &&
          incarnation === incarnations[index] &&
          links[index]?.epoch === epochs[index] &&
          (resetMs.get(index) ?? -1) < nowMs;
        if (!isWhole) continue;
        this.#count("nodes looked at after a drain");
        for (const [key, value] of valuesOn(node)) {
          const isItsOwn = this.#clients[value.charCodeAt(0) - 97]?.host === host;
          if (!isItsOwn || this.#shared.has(value) || key.endsWith(FENCE_MARK)) continue;
          const tracked = this.#checker.tracked.find(({ lock }) => lock.value === value);
          // A lock that is lost is not released: its key expires.
          const isLost =
            tracked !== undefined && isTold(tracked.lock.signal) && !isLossByClosing(tracked.lock);
          if (isLost) continue;
          throw new Violation("drain", `${key} of ${value} is left on ${name}`);
        }
      }
    };
  }

  /** While a drain lasts, what is held may be extended and released. */
  #checkLets(client: Client, tracked: Tracked, outcome: unknown): void {
    const { host, closings, drainUntilMs, heldAtClosing } = client;
    if (!heldAtClosing.has(tracked)) return;
    if ((outcome as { code?: unknown } | null)?.code !== "ERR_REDLOCK_CLOSED") return;
    this.#checker.refresh(tracked);
    const isHeld = tracked.monotonicEndMs !== 0 && !tracked.ended;
    if (isHeld && closings === 1 && host.monotonicAt(host.timeMs) < drainUntilMs - LATE_MS) {
      throw new Violation("drain", `${host.name} may not extend or release ${tracked.lock.value}`);
    }
  }

  async #tryAcquire(
    client: Client,
    step: Step & { kind: "tryAcquire" },
  ): Promise<Tracked | undefined> {
    const { resources, ttlMs, settings } = step;
    const drawn = client.host.values.length;
    const timesMs = nodeTimesMs(settings, ttlMs);
    const outcome = await this.#taking(client, () =>
      this.#call(client, `tryAcquire ${resources.join(", ")} for ${ttlMs} ms`, timesMs.mostMs, () =>
        client.redlock.tryAcquire(resources, ttlMs, {
          ...settings,
          ...settingsOf(step.handling),
          shared: step.shared ?? false,
        }),
      ),
    );
    if (outcome instanceof Error) return undefined;
    if (outcome !== null) {
      this.#count("acquired");
      return this.#handle(client, outcome, step);
    }
    this.#count("tryAcquire gave null");
    const { owner } = client.redlock.settings;
    const values = client.host.values
      .slice(drawn)
      .map((random) => (owner === "" ? random : `${random} ${owner}`));
    const quorum = Math.floor(this.#nodes.length / 2) + 1;
    if (!values.some((value) => this.#checker.answers(value, client.host) >= quorum)) {
      throw new Violation("held", `${client.host.name} was told held where no quorum answered`);
    }
    return undefined;
  }

  async #extend(
    client: Client,
    tracked: Tracked,
    ttlMs: number,
    settings: CallSettings,
  ): Promise<void> {
    const { host } = client;
    const { lock } = tracked;
    const { mostMs, leastMs } = nodeTimesMs(settings, ttlMs);
    tracked.nodeTimeoutMs = Math.max(tracked.nodeTimeoutMs, mostMs);
    tracked.surelyMs = Math.min(tracked.surelyMs, leastMs);
    this.#checker.refresh(tracked);
    const startMs = host.monotonicAt(host.timeMs);
    const leftMs = tracked.monotonicEndMs === 0 ? Infinity : tracked.monotonicEndMs - startMs;
    // The library itself may move the end meanwhile.
    const untilEndMs = tracked.isKept ? Infinity : Math.max(0, leftMs) + ttlMs;
    const budgetMs = Math.min(retryBudgetMs(settings, mostMs), untilEndMs);
    const extending = { fromMs: startMs, untilMs: Infinity };
    tracked.extendingMs.push(extending);
    const outcome = await this.#call(client, `extend ${lock.value} by ${ttlMs} ms`, budgetMs, () =>
      client.redlock.extend(lock, ttlMs, settings),
    );
    this.#checker.refresh(tracked);
    extending.untilMs = host.monotonicAt(host.timeMs);
    this.#checkLets(client, tracked, outcome);
    if (outcome instanceof Error && tracked.isKept) return;
    if (outcome instanceof Error) {
      // Waiting for the next attempt ends as well when the Redlock is closed, or the lock over.
      const isOver = tracked.monotonicEndMs !== 0 && !this.#checker.believes(tracked);
      if (outcome.code === "ERR_REDLOCK_QUORUM" && !isOver) {
        const { length } = outcome.attempts ?? [];
        this.#checker.checkPrompt(lock.value, host, "extend", startMs, 0, length);
      }
      return;
    }
    this.#count("extended");
    const quorum = Math.floor(this.#nodes.length / 2) + 1;
    if (this.#checker.extensionVotes(lock.value, host, startMs - 1e-6) < quorum) {
      throw new Violation("quorum", `${host.name} extended ${lock.value} without a quorum's yes`);
    }
  }

  async #release(client: Client, tracked: Tracked, settings: CallSettings): Promise<void> {
    const { host } = client;
    const { lock } = tracked;
    const { mostMs, leastMs } = nodeTimesMs(settings, lock.ttl);
    const startMs = host.monotonicAt(host.timeMs);
    tracked.released = true;
    const outcome = await this.#call(
      client,
      `release ${lock.value}`,
      Math.min(retryBudgetMs(settings, mostMs), lock.ttl + mostMs),
      () => this.#releaseWatched(client, tracked, settings),
    );
    this.#checkLets(client, tracked, outcome);
    const { length } = outcome.attempts ?? [];
    this.#checker.checkPrompt(lock.value, host, "release", startMs, leastMs, length);
    if (!(outcome instanceof Error)) this.#count("released");
  }

  /** The release of a lock that is held is no loss, at once and later. */
  #releaseWatched(
    { redlock, host }: Client,
    tracked: Tracked,
    settings: CallSettings,
  ): ReturnType<Redlock["release"]> {
    const { lock } = tracked;
    this.#checker.refresh(tracked);
    const { monotonicEndMs, wallEndMs, signal } = tracked;
    const wasTold = signal !== undefined && isTold(signal);
    const wasHeld = monotonicEndMs !== 0 && !tracked.ended && !wasTold;
    const releasing = redlock.release(lock, settings);
    // The release of a closed Redlock's lock is refused, and the lock stays.
    const isHeld = lock.valid;
    const isOver =
      host.monotonicAt(host.timeMs) >= monotonicEndMs || host.wallAt(host.timeMs) >= wallEndMs;
    if (wasHeld && !isHeld && !isOver) tracked.releasedSignal = lock.signal;
    return releasing;
  }

  /** Runs what the library calls under a lock. A violation in it ends the run: what the library makes of it does not count. */
  async #watched<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Violation) this.#checker.break(error);
      throw error;
    }
  }

  async #use(client: Client, step: Step & { kind: "use" }): Promise<void> {
    const { resources, ttlMs, settings, holdMs, heedsSignal, maxHoldMs } = step;
    const { host } = client;
    const timesMs = nodeTimesMs(settings, ttlMs);
    const budgetMs = this.#acquireBudgetMs(settings, ttlMs);
    const startMs = host.monotonicAt(host.timeMs);
    const { pausedMs } = host;
    const work: { isLost: boolean; lock?: Lock; tracked?: Tracked; signal?: AbortSignal } = {
      isLost: false,
    };
    const routine = async (signal: AbortSignal, lock: Lock): Promise<string> => {
      this.#count("acquired");
      const fromMs = host.monotonicAt(host.timeMs);
      if (fromMs - startMs > budgetMs + LATE_MS + 1.01 * (host.pausedMs - pausedMs)) {
        throw new Violation("budget", `${host.name} waited too long for using`);
      }
      const tracked = this.#track(client, lock, settings, timesMs, isTold(signal));
      Object.assign(work, { lock, tracked, signal });
      tracked.signal = signal;
      tracked.isKept = true;
      tracked.maxHoldMs = maxHoldMs;
      await this.#hold(host, signal, holdMs, heedsSignal);
      this.#checker.checkTold(tracked);
      this.#checkKept(client, tracked, ttlMs, settings);
      work.isLost = isTold(signal);
      if (work.isLost) this.#count("using: loss told");
      tracked.signal = undefined;
      tracked.released = true;
      return "done";
    };
    const outcome = await this.#taking(client, () =>
      this.#call(
        client,
        `using ${resources.join(", ")} for ${ttlMs} ms, held ${holdMs.toFixed(0)} ms`,
        budgetMs + holdMs * 1.01 + timesMs.mostMs + LATE_MS,
        () =>
          client.redlock.using(
            resources,
            ttlMs,
            { ...settings, ...limitOf(maxHoldMs), shared: step.shared ?? false },
            (signal, lock) => this.#watched(() => routine(signal, lock)),
          ),
      ),
    );
    // A lock that the closing released was released while its routine ran.
    if (work.lock !== undefined && !client.closed) {
      this.#checker.checkPrompt(work.lock.value, host, "release", startMs, timesMs.leastMs);
    }
    const { tracked, signal } = work;
    if (tracked !== undefined && signal !== undefined && !isTold(signal)) {
      tracked.releasedSignal = signal;
    }
    if (work.isLost && !(outcome instanceof Error)) {
      throw new Violation("loss is final", `${host.name}'s using gave a value after its loss`);
    }
  }

  /** Leads until it resigns, or until a term's routine ends by itself. */
  async #lead(client: Client, step: Step & { kind: "lead" }): Promise<void> {
    const { resources, ttlMs, settings, resignAfterMs, holdMs, lateMs, maxHoldMs } = step;
    const { retryDelay, retryJitter, nodeTimeout } = settings;
    const { host } = client;
    const [name = ""] = resources;
    const resignation = new AbortController();
    this.world.after(
      resignAfterMs,
      () => {
        this.#count("resignation");
        resignation.abort(new Error("cancelled"));
      },
      host,
    );
    const terms: Term[] = [];
    const timesMs = nodeTimesMs(settings, ttlMs);
    const outcome = await this.#taking(client, () =>
      this.#call(
        client,
        `lead ${name} for ${ttlMs} ms`,
        1.01 * (resignAfterMs + holdMs + lateMs) + timesMs.mostMs + 2 * LATE_MS,
        () =>
          client.redlock.lead(
            name,
            ttlMs,
            {
              retryDelay,
              retryJitter,
              ...(nodeTimeout === undefined ? {} : { nodeTimeout }),
              ...limitOf(maxHoldMs),
              signal: resignation.signal,
            },
            (signal, lock) =>
              this.#watched(() => this.#serve(client, step, { terms, signal, lock, resignation })),
          ),
      ),
    );
    const last = terms.at(-1);
    const isOver = resignation.signal.aborted || client.closed;
    if (terms.some(({ hasEnded }) => !hasEnded)) {
      throw new Violation("one leader", `${host.name}'s lead ended before its routine`);
    }
    if (outcome instanceof Error) {
      if ((outcome as Failure).code === "ERR_REDLOCK_CLOSED") return;
      throw new Violation("lead", `${host.name}'s lead threw ${outcome.message}`);
    }
    if (outcome === undefined ? !isOver : outcome !== terms.length || last?.isLost === true) {
      throw new Violation(
        "lead",
        `${host.name}'s lead gave ${outcome} after ${terms.length} terms`,
      );
    }
  }

  /** One term of a leader. */
  async #serve(
    client: Client,
    { ttlMs, settings, holdMs, heedsSignal, lateMs, throws, maxHoldMs }: Step & { kind: "lead" },
    { terms, signal, lock, resignation }: Election,
  ): Promise<number> {
    const { host } = client;
    const hasResigned = (): boolean => resignation.signal.aborted;
    this.#count("terms of leaders");
    if (terms.some(({ hasEnded }) => !hasEnded)) {
      throw new Violation("one leader", `${host.name} runs two routines of one lead`);
    }
    if (isTold(signal) || hasResigned()) {
      throw new Violation("lead", `${host.name} runs a routine after its term`);
    }
    const tracked = this.#track(
      client,
      lock,
      settings,
      nodeTimesMs(settings, ttlMs),
      isTold(signal),
    );
    const term: Term = { hasEnded: false, isLost: false };
    terms.push(term);
    Object.assign(tracked, { signal, isKept: true, maxHoldMs });
    this.#checker.checkAlone(tracked);
    const fromMs = host.monotonicAt(host.timeMs);
    const { pausedMs } = host;
    await this.#hold(host, signal, holdMs, heedsSignal);
    this.#checker.checkTold(tracked);
    const servedMs = host.monotonicAt(host.timeMs) - fromMs;
    const allowedMs = LATE_MS + 1.01 * (host.pausedMs - pausedMs + host.longestTurnMs);
    if (!isTold(signal) && maxHoldMs !== undefined && servedMs > maxHoldMs + allowedMs) {
      throw new Violation("maxHold", `${host.name} was not told that its term is over`);
    }
    if (!isTold(signal) && (hasResigned() || (client.closedTurn ?? Infinity) < host.turn)) {
      throw new Violation("lead", `${host.name} was not told that it leads no more`);
    }
    const isResignation = isTold(signal) && signal.reason === resignation.signal.reason;
    if (isResignation && lock.valid) {
      throw new Violation("lead", `${host.name} still holds ${lock.value}, as which it resigned`);
    }
    if (!hasResigned()) this.#checkKept(client, tracked, ttlMs, settings);
    if (isTold(signal)) {
      this.#count("leaders told");
      if (lateMs > 0) await host.sleep(lateMs);
    }
    this.#checker.refresh(tracked);
    const isOver = hasResigned() || client.closed;
    Object.assign(term, { hasEnded: true, isLost: isTold(signal) && !isOver });
    tracked.signal = undefined;
    tracked.released = true;
    if (isTold(signal) && throws) throw signal.reason as Error;
    return terms.length;
  }

  /** The work under the lock: some listen to the signal. */
  #hold(host: Host, signal: AbortSignal, holdMs: number, heedsSignal: boolean): Promise<unknown> {
    const rest = host.sleep(holdMs);
    if (!heedsSignal) return rest;
    const aborted = new Promise((resolve) => {
      signal.addEventListener("abort", resolve, { once: true });
    });
    return Promise.race([rest, aborted]);
  }

  /** From here on the other works under the lock, and nobody else. */
  #handOver({ host }: Client, tracked: Tracked, step: Step & { kind: "handOver" }): void {
    const { lock } = tracked;
    const target = this.#clients[step.to];
    if (target === undefined || target.host === host) return;
    tracked.handedOver = true;
    tracked.endedMs ??= host.monotonicAt(host.timeMs);
    this.#shared.add(lock.value);
    this.#count("hand over");
    const text = JSON.stringify(lock);
    this.world.log(host.name, `hands ${lock.value} over to ${target.host.name}`, host.timeMs);
    this.#launch(target, this.#plan.weather.mostMs, async () => {
      const settings: CallSettings = { retryCount: 3, retryDelay: 10, retryJitter: 5 };
      const adopted = target.redlock.adopt(JSON.parse(text) as ReturnType<Lock["toJSON"]>);
      const tracked = this.#checker.track(target.host, adopted, true, {
        mostMs: 0,
        leastMs: Infinity,
      });
      await this.#extend(target, tracked, step.ttlMs, settings);
      await target.host.sleep(step.holdMs);
      await this.#release(target, tracked, settings);
    });
  }

  #schedule(fault: Fault): void {
    if (fault.kind === "pause client") {
      this.#clients[fault.client]?.host.pauses.set(fault.atMeeting, fault.ms);
      return;
    }
    if (fault.kind === "reset") {
      const link = this.#clients[fault.client]?.links[fault.node];
      if (link !== undefined) {
        link.resets.add(fault.atSend);
        link.onReset = () => {
          this.#isCalm = false;
          this.#clients[fault.client]?.resetMs.set(fault.node, this.world.nowMs);
          this.#count(`${FAULT_MARK}reset of a connection with a command in flight`);
          this.world.log("FAULT", JSON.stringify(fault));
        };
      }
      return;
    }
    this.#faultsLeft += 1;
    this.world.at(fault.atMs, () => {
      this.#isCalm = false;
      this.#count(inDetail(fault));
      this.world.log("FAULT", JSON.stringify(fault));
      const end = this.#begin(fault);
      const disturbance = "node" in fault ? this.#disturbances[fault.node] : undefined;
      if (disturbance !== undefined) disturbance.count += 1;
      this.world.after("ms" in fault ? fault.ms : 0, () => {
        if ("ms" in fault && fault.ms > 0) this.world.log("FAULT", `over: ${fault.kind}`);
        end();
        if (disturbance !== undefined) {
          disturbance.count -= 1;
          // What was sent meanwhile is on its way for so long.
          const wakeMs = fault.kind === "slow" ? 2 * fault.extraMs : 0;
          disturbance.untilMs = this.world.nowMs + wakeMs;
        }
        this.#faultsLeft -= 1;
      });
    });
  }

  /** Gives what ends it. */
  #begin(fault: Exclude<Fault, { kind: "pause client" | "reset" }>): () => void {
    const nothing = (): void => undefined;
    switch (fault.kind) {
      case "suspend client":
        this.#clients[fault.client]?.host.suspend(fault.ms);
        return nothing;
      case "kill client":
        this.#kill(fault.client);
        return nothing;
      case "step wall clock":
        this.#clients[fault.client]?.host.stepWall(fault.byMs);
        this.#checker.checkHolders();
        return nothing;
      case "pause node":
        this.#nodes[fault.node]?.pause(fault.ms);
        return nothing;
      case "crash node":
        return this.#crash(fault.node, fault.withData);
      case "partition":
      case "loss":
      case "slow":
        return this.#disturb(fault);
      case "corrupt line":
        this.#corrupt(fault);
        return nothing;
    }
  }

  /** Waiting is only a hint: whatever becomes of a line, nobody may hold what another holds. */
  #corrupt({ node: index, how }: Fault & { kind: "corrupt line" }): void {
    const node = this.#nodes[index];
    if (node === undefined || node.down) return;
    const { redis, clockMs } = node;
    const onNode = (command: string, ...args: string[]): void => {
      redis.execute(command, args, clockMs);
    };
    for (const key of redis.keys(clockMs)) {
      const isOrder = key.endsWith(":line");
      if (!isOrder && !key.endsWith(":alive")) continue;
      switch (how) {
        case "forgotten":
          onNode("del", key);
          break;
        case "of another type":
          onNode("set", key, "(no line)", "PX", "1000");
          break;
        case "full of nonsense":
          onNode("del", key);
          if (isOrder) onNode("zadd", key, "1", "nobody", "2", "who said nothing");
          else onNode("hset", key, "nobody", "nonsense");
          onNode("pexpire", key, "1000");
          break;
        case "out of order": {
          if (redis.peek(key, clockMs)?.type !== "zset") break;
          const ids = redis.execute("zrange", [key, "0", "-1"], clockMs) as string[];
          for (const [rank, id] of ids.entries()) onNode("zadd", key, String(-rank), id);
          break;
        }
      }
    }
  }

  #kill(index: number): void {
    const client = this.#clients[index];
    // Somebody must be left who can show that nothing stays behind.
    if (client === undefined || this.#clients.filter(({ host }) => !host.dead).length < 2) return;
    client.host.dead = true;
  }

  #crash(index: number, withData: boolean): () => void {
    const node = this.#nodes[index];
    if (node === undefined || node.down) return () => undefined;
    node.crash();
    for (const { links } of this.#clients) links[index]?.reset();
    return () => {
      node.restart(withData);
      if (withData) return;
      const disturbance = this.#disturbances[index];
      if (disturbance !== undefined) disturbance.lostDataMs = this.world.nowMs;
      this.#checker.onDataLoss();
    };
  }

  #disturb(fault: Fault & { kind: "partition" | "loss" | "slow" }): () => void {
    const link = this.#clients[fault.client]?.links[fault.node];
    if (link === undefined) return () => undefined;
    switch (fault.kind) {
      case "partition":
        link.cut(fault.direction);
        return () => {
          if (fault.resets) link.reset();
          link.heal(fault.direction);
        };
      case "loss":
        link.lose(fault.direction);
        return () => {
          link.reset();
        };
      case "slow":
        link.extraDelayMs += fault.extraMs;
        return () => {
          link.extraDelayMs -= fault.extraMs;
        };
    }
  }

  #isQuiet(): boolean {
    if (this.#faultsLeft > 0) return false;
    return this.#clients.every(
      ({ host }) => host.dead || (host.running === 0 && host.busyUntilMs <= this.world.nowMs),
    );
  }

  #settleWhenQuiet(): void {
    if (this.#settlingFromMs !== undefined || !this.#isQuiet()) return;
    this.#settlingFromMs = this.world.nowMs;
    this.world.after(SETTLE_MS, this.#settle);
  }

  /** Once all is done and whole again, nothing that was given back may be left for long. */
  readonly #settle = (): void => {
    const isSettled = this.#clients.every(
      ({ host, links }) => host.dead || links.every(({ isSettled }) => isSettled),
    );
    if (isSettled) {
      this.#checkResidue();
      return;
    }
    const settlingMs = this.world.nowMs - (this.#settlingFromMs ?? 0);
    if (settlingMs > LONGEST_SETTLING_MS) {
      throw new Violation(
        "nothing leaks",
        "connections are closed or commands unanswered for ever",
      );
    }
    this.world.after(SETTLE_MS, this.#settle);
  };

  #checkResidue(): void {
    // Subscriptions are kept a while for the next who waits.
    const idleMs = this.#plan.queue === true ? SUBSCRIPTION_IDLE_MS : 0;
    this.world.after(1.01 * (this.#longestNodeTimeoutMs + idleMs) + LATE_MS, () => {
      // A probe of a subscription may have met its pause only now.
      if (!this.#isQuiet()) {
        this.#checkResidue();
        return;
      }
      for (const { host } of this.#clients) {
        if (!host.dead && host.timers.size > 0) {
          throw new Violation("nothing leaks", `${host.name} has ${host.timers.size} timers left`);
        }
      }
      for (const { name, listeners } of this.#nodes) {
        const living = [...listeners.keys()].filter((channel) => !this.#isOfDead(channel));
        if (living.some((channel) => (listeners.get(channel)?.size ?? 0) > 0)) {
          throw new Violation("nothing leaks", `somebody still listens to ${name}`);
        }
      }
    });
    for (const node of this.#nodes) {
      for (const [key, value] of valuesOn(node)) {
        if (!key.endsWith(FENCE_MARK)) this.#checkLeft(node, key, value);
      }
    }
  }

  #isOfDead(channel: string): boolean {
    const owner = this.#clients[channel.replace("redlock:", "").charCodeAt(0) - 97];
    return owner === undefined || owner.host.dead;
  }

  #checkLeft(node: SimulatedNode, key: string, value: string): void {
    const owner = this.#clients[value.charCodeAt(0) - 97];
    if (owner === undefined || owner.host.dead || owner.closed || this.#shared.has(value)) return;
    if (owner.links[node.index]?.strays.has(value) === true) return;
    const tracked = this.#checker.tracked.find(({ lock }) => lock.value === value);
    if (tracked?.released === false) return;
    throw new Violation(
      "release everywhere",
      `${key} of ${value}, which ${tracked === undefined ? "was refused" : "was given back"}, is left on ${node.name}`,
    );
  }

  #checkEnd(): void {
    for (const host of this.#uncounted.values()) {
      if (!host.dead)
        throw new Violation("an end", `an attempt of ${host.name} never has all votes`);
    }
    for (const { host, links } of this.#clients) {
      if (host.dead) continue;
      if (host.running !== 0) throw new Violation("an end", `${host.name} waits for ever`);
      for (const { pending, node } of links) {
        if (pending > 0) {
          throw new Violation(
            "nothing leaks",
            `${host.name} waits for ${pending} answers of ${node.name}`,
          );
        }
      }
    }
    const longestMs = 1.02 * Math.max(this.#longestTtlMs, this.#longestStandingMs);
    for (const { redis, clockMs, name } of this.#nodes) {
      const stays =
        redis.keys(clockMs + longestMs).find((key) => !key.endsWith(FENCE_MARK)) ??
        redis.keys(clockMs + Math.max(DAY_MS, 10 * this.#longestTtlMs) + MOST_APART_MS).at(0);
      if (stays !== undefined) throw new Violation("nothing leaks", `${stays} stays on ${name}`);
    }
  }
}

/** The keys of a node and what they hold; a readers' set once for each reader that still reads. */
function valuesOn({ redis, clockMs }: SimulatedNode): [string, string][] {
  return redis.keys(clockMs).flatMap((key): [string, string][] => {
    const { value = "", members = [] } = redis.peek(key, clockMs) ?? {};
    if (!key.endsWith(SET_MARK)) return [[key, value]];
    const live = members.filter(({ member, score }) => isValue(member) && score >= clockMs);
    return live.map(({ member }) => [key, member]);
  });
}

/** What the library gives one node, at most and at least. */
interface NodeTimes {
  readonly mostMs: number;
  readonly leastMs: number;
}

function nodeTimesMs({ nodeTimeout }: CallSettings, ttlMs: number): NodeTimes {
  const usualMs = Math.min(Math.max(Math.round(ttlMs * 0.05), 50), 1000);
  return {
    mostMs: nodeTimeout ?? Math.max(usualMs, ttlMs / 3),
    leastMs: nodeTimeout ?? usualMs,
  };
}

function settingsOf(handling: Handling | undefined): Settings {
  if (handling === undefined) return {};
  const { autoExtend, maxHoldMs } = handling;
  return { autoExtend, ...limitOf(maxHoldMs) };
}

function limitOf(maxHoldMs: number | undefined): Settings {
  return maxHoldMs === undefined ? {} : { maxHold: maxHoldMs };
}

/** Whether the lock was lost because its Redlock closed. Reading the signal of a lock that ended changes nothing. */
function isLossByClosing({ signal }: Lock): boolean {
  return (signal.reason as { reason?: unknown } | undefined)?.reason === "closed";
}

/** As long as all calls and faults take that have an end, one after the other, and then enough attempts. */
function longestWaitMs({ clients, faults, restartGuardMs }: Plan): number {
  const faultsMs = Math.max(
    0,
    ...faults.map((fault) => ("atMs" in fault ? fault.atMs : 0) + ("ms" in fault ? fault.ms : 0)),
  );
  // A node that forgot gives no votes for as long after its return.
  let sumMs = faultsMs + (restartGuardMs ?? 0);
  for (const step of clients.flatMap(({ programs }) => programs.flat())) {
    sumMs += step.afterMs + ("holdMs" in step ? step.holdMs : 0);
    if ("handling" in step) {
      const { signalAfterMs, holdMs, maxHoldMs = 0 } = step.handling;
      sumMs += signalAfterMs + holdMs + maxHoldMs;
    }
    if ("ttlMs" in step) sumMs += 2 * step.ttlMs;
    if (step.kind === "lead") {
      // Its own waiting ends by its resignation.
      sumMs += step.resignAfterMs + step.lateMs;
      continue;
    }
    if (!("settings" in step)) continue;
    const { settings } = step;
    const ttlMs = "ttlMs" in step ? step.ttlMs : 0;
    const retryCount = settings.retryCount === -1 ? ENOUGH_ATTEMPTS : settings.retryCount;
    sumMs += retryBudgetMs({ ...settings, retryCount }, nodeTimesMs(settings, ttlMs).mostMs);
  }
  return 1.02 * sumMs;
}

function retryBudgetMs(
  { retryCount, retryDelay, retryJitter }: CallSettings,
  boundMs: number,
): number {
  // Each wait of each attempt is a timer, and may be late.
  return (retryCount + 1) * (boundMs + retryDelay + retryJitter + LATE_MS);
}

/** Under what name a fault is counted. */
function inDetail(fault: Fault): string {
  const name = `${FAULT_MARK}${fault.kind}`;
  if (fault.kind === "crash node") return `${name}, ${fault.withData ? "data kept" : "data lost"}`;
  if (fault.kind === "step wall clock") return `${name} ${fault.byMs < 0 ? "back" : "forward"}`;
  return "direction" in fault ? `${name}, of ${WAYS[fault.direction]}` : name;
}

function inWords(outcome: unknown): string {
  if (outcome instanceof Error) return outcome.message;
  if (typeof outcome === "object" && outcome !== null && "value" in outcome) {
    return String(outcome.value);
  }
  return outcome === null ? "held" : "done";
}

function asViolation(error: unknown): Violation {
  if (error instanceof Violation) return error;
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new Violation("an exception", text);
}
