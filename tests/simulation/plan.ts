import type { HostClocks } from "../virtual-world/host.js";
import type { Direction, Weather } from "../virtual-world/link.js";
import type { NodeClock } from "../virtual-world/node.js";
import { Random } from "../virtual-world/random.js";

/** Each clock runs at a rate within this share of true time, so that any two differ by 1 % at most. */
export const DRIFT_BOUND = 0.005;

export interface CallSettings {
  readonly retryCount: number;
  readonly retryDelay: number;
  readonly retryJitter: number;
  readonly nodeTimeout?: number;
  readonly acquireTimeout?: number;
  readonly permits?: number;
}

interface Taking {
  /** Whether it reads. */
  readonly shared?: boolean;
  readonly resources: readonly string[];
  readonly ttlMs: number;
  readonly settings: CallSettings;
}

/** What a program does with a lock that it has acquired, before its next step. */
export interface Handling {
  /** It reads the lock's signal so late. */
  readonly signalAfterMs: number;
  /** From then on it holds the lock, unless it heeds the signal and the lock is lost before. */
  readonly holdMs: number;
  readonly heedsSignal: boolean;
  readonly autoExtend: boolean;
  readonly maxHoldMs?: number;
  /** Whether it then goes on without releasing it. */
  readonly isLeft: boolean;
}

/** What a program does next, after waiting. Without a lock, it inspects where it is to extend, release or hand over. */
export type Step = { readonly afterMs: number } & (
  | ({
      readonly kind: "acquire";
      readonly cancelAfterMs?: number;
      readonly handling?: Handling;
    } & Taking)
  | ({ readonly kind: "tryAcquire"; readonly handling?: Handling } & Taking)
  | ({
      readonly kind: "use";
      readonly holdMs: number;
      readonly heedsSignal: boolean;
      readonly maxHoldMs?: number;
    } & Taking)
  | { readonly kind: "extend"; readonly ttlMs: number; readonly settings: CallSettings }
  | { readonly kind: "release"; readonly settings: CallSettings }
  | {
      readonly kind: "handOver";
      readonly to: number;
      readonly ttlMs: number;
      readonly holdMs: number;
    }
  | {
      readonly kind: "forceRelease";
      readonly resources: readonly string[];
      /** Ends each of so many permits. */
      readonly permits?: number;
    }
  | ({
      readonly kind: "lead";
      /** It resigns so late, unless its routine ends a term by itself before, `holdMs` after it was elected. */
      readonly resignAfterMs: number;
      readonly holdMs: number;
      readonly heedsSignal: boolean;
      /** So long its routine works on after it has noticed that it was told. */
      readonly lateMs: number;
      /** Whether the routine throws the signal's reason where it was told. */
      readonly throws: boolean;
      readonly maxHoldMs?: number;
    } & Taking)
  | {
      readonly kind: "close";
      readonly how: "quit" | "dispose";
      /** With "quit" only. */
      readonly drainMs?: number;
    }
);

export interface ClientPlan {
  readonly clocks: HostClocks;
  /** Whether its connections send again what was unanswered when they broke. */
  readonly resends: boolean;
  /** Each runs its steps one after the other, beside the others. */
  readonly programs: readonly (readonly Step[])[];
  /** Its setting `owner`; none where left out. */
  readonly owner?: string;
}

export type Fault =
  | {
      readonly kind: "pause client";
      readonly client: number;
      readonly atMeeting: number;
      readonly ms: number;
    }
  | {
      readonly kind: "suspend client";
      readonly client: number;
      readonly atMs: number;
      readonly ms: number;
    }
  | { readonly kind: "kill client"; readonly client: number; readonly atMs: number }
  | {
      readonly kind: "step wall clock";
      readonly client: number;
      readonly atMs: number;
      readonly byMs: number;
    }
  | {
      readonly kind: "pause node";
      readonly node: number;
      readonly atMs: number;
      readonly ms: number;
    }
  | {
      readonly kind: "crash node";
      readonly node: number;
      readonly atMs: number;
      readonly ms: number;
      readonly withData: boolean;
    }
  | (OnLink & {
      readonly kind: "partition";
      readonly direction: Direction;
      readonly resets: boolean;
    })
  | (OnLink & { readonly kind: "loss"; readonly direction: Direction })
  | (OnLink & { readonly kind: "slow"; readonly extraMs: number })
  | {
      readonly kind: "corrupt line";
      readonly node: number;
      readonly atMs: number;
      readonly how: "forgotten" | "of another type" | "full of nonsense" | "out of order";
    }
  | {
      readonly kind: "reset";
      readonly client: number;
      readonly node: number;
      /** Just after this many commands were sent on the connection, so that one is in flight. */
      readonly atSend: number;
    };

interface OnLink {
  readonly client: number;
  readonly node: number;
  readonly atMs: number;
  readonly ms: number;
}

/** All that happens in a schedule but for the chance in its details, which the seed fixes as well. */
export interface Plan {
  readonly seed: number;
  readonly nodes: readonly NodeClock[];
  readonly clients: readonly ClientPlan[];
  readonly weather: Weather;
  /** Ms that each send and each look at a clock takes. */
  readonly meetingCostMs: number;
  readonly faults: readonly Fault[];
  /** Whether they wait in line; those of these indexes cannot hear who is next. */
  readonly queue?: boolean;
  readonly mute?: readonly number[];
  /** The clients' `restartGuard`; false where left out. */
  readonly restartGuardMs?: number;
  /** Whether all locks are fenced. */
  readonly fencing?: boolean;
}

const LEAST_STEPS = 10;

const TAKING_STEPS = ["acquire", "acquire", "acquire", "tryAcquire", "use", "use"] as const;
const STEPS = [
  "acquire",
  "use",
  "extend",
  "extend",
  "extend",
  "release",
  "release",
  "handOver",
] as const;

const CERTAIN_FAULTS = [
  "step wall clock",
  "pause node",
  "pause node",
  "crash node",
  "crash node",
  "partition",
  "partition",
  "loss",
  "loss",
  "slow",
] as const;

const FAULTS = [
  ...CERTAIN_FAULTS,
  "pause client",
  "pause client",
  "pause client",
  "suspend client",
  "kill client",
  "reset",
  "reset",
] as const;

export function makePlan(seed: number): Plan {
  const random = new Random(seed, 1);
  const maker = new PlanMaker(random);
  return { seed, ...maker.plan() };
}

class PlanMaker {
  readonly #random: Random;
  /** The ttl that most locks have; all other times are in proportion, so that they meet. */
  readonly #scaleMs: number;
  readonly #nodeCount: number;
  readonly #clientCount: number;
  readonly #resources: readonly [string, ...string[]];
  /** Where machines are suspended, wall clocks are not set back: no lease survives both at once. */
  readonly #suspends: boolean;
  readonly #weather: Weather;
  #longestTtlMs = 0;
  /** How the last lock was taken. */
  #way: Pick<Taking, "ttlMs" | "settings"> | undefined;
  /** The longest ttl that nodes without their data stay away for. */
  #guardedTtlMs = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#scaleMs = random.pick([100, 300, 1000, 1000, 3000, 10_000]);
    this.#nodeCount = random.pick([3, 3, 3, 3, 3, 5, 5, 1, 2, 4]);
    this.#clientCount = random.pick([2, 2, 2, 3, 3, 4]);
    this.#resources = random.pick([["r"], ["r"], ["r"], ["r", "s"]]);
    this.#suspends = random.chance(0.3);
    this.#weather = this.#makeWeather();
  }

  plan(): Omit<Plan, "seed"> {
    const random = this.#random;
    const clients = Array.from({ length: this.#clientCount }, (_, index) => this.#client(index));
    const nodes = Array.from({ length: this.#nodeCount }, () => ({
      rate: this.#rate(),
      offsetMs: random.between(0, 100_000),
    }));
    const faults = Array.from({ length: random.whole(1, 6) }, (_, index) =>
      this.#fault(index === 0),
    );
    const meetingCostMs = random.pick([0, 0.01, 0.05]);
    const rest = { nodes, clients, weather: this.#weather, meetingCostMs };
    // Drawn last, so that a seed's plan is otherwise what it was before.
    const plan = this.#guarded(
      random.chance(0.7) ? this.#queueKeys(rest, faults) : { ...rest, faults },
    );
    const fenced = { ...plan, fencing: random.chance(0.4) };
    const handled = random.chance(0.5) ? this.#withHandles(fenced) : fenced;
    const led = random.chance(0.25) ? this.#withLeaders(handled) : handled;
    const read = random.chance(0.6) ? led : this.#withReaders(led);
    return random.chance(0.25) ? this.#withPermits(read) : read;
  }

  /** Lets some of what is taken be one of several permits, of a resource of their own. */
  #withPermits(plan: Omit<Plan, "seed">): Omit<Plan, "seed"> {
    const random = this.#random;
    const permits = random.pick([2, 2, 3, 4]);
    const share = random.pick([0.5, 0.8, 1]);
    const limited = (step: Step): Step => {
      const isTaking = step.kind === "acquire" || step.kind === "tryAcquire" || step.kind === "use";
      if (!isTaking || step.shared === true || !random.chance(share)) return step;
      return { ...step, resources: ["p"], settings: { ...step.settings, permits } };
    };
    const clients = plan.clients.map((client) => ({
      ...client,
      programs: client.programs.map((program) => program.map(limited)),
    }));
    while (random.chance(0.3)) {
      const afterMs = random.between(0, 0.7 * this.#scaleMs);
      this.#insert(clients, { kind: "forceRelease", afterMs, resources: ["p"], permits });
    }
    return { ...plan, clients, fencing: false };
  }

  /** Lets some of the clients lead, among all else that they do. */
  #withLeaders(plan: Omit<Plan, "seed">): Omit<Plan, "seed"> {
    const random = this.#random;
    const clients = plan.clients.map((client) => ({
      ...client,
      programs: client.programs.map((program) => [...program]),
    }));
    const name = random.pick(this.#resources);
    do {
      this.#insert(
        clients,
        this.#leadStep(random.chance(0.8) ? name : random.pick(this.#resources)),
      );
    } while (random.chance(0.7));
    return { ...plan, clients };
  }

  #leadStep(name: string): Step {
    const random = this.#random;
    const { retryDelay, retryJitter, ...rest } = this.#settings();
    const nodeTimeout = "nodeTimeout" in rest ? { nodeTimeout: rest.nodeTimeout } : {};
    return {
      kind: "lead",
      afterMs: random.chance(0.5) ? 0 : random.between(0, 0.7 * this.#scaleMs),
      resources: [name],
      // The restart guard, drawn before, is as long as the ttls that were drawn before it.
      ttlMs: Math.min(this.#ttlMs(), this.#guardedTtlMs),
      settings: { retryCount: -1, retryDelay, retryJitter, ...nodeTimeout },
      resignAfterMs: random.between(0, 8 * this.#scaleMs),
      holdMs: random.between(0, (random.chance(0.5) ? 8 : 3) * this.#scaleMs),
      heedsSignal: random.chance(0.8),
      lateMs: random.chance(0.5) ? 0 : random.between(0, this.#scaleMs),
      throws: random.chance(0.5),
      ...(random.chance(0.4)
        ? { maxHoldMs: Math.max(1, Math.round(this.#scaleMs * random.between(0.1, 3))) }
        : {}),
    };
  }

  /** Readers have no tokens. */
  #withReaders(plan: Omit<Plan, "seed">): Omit<Plan, "seed"> {
    const random = this.#random;
    const share = random.pick([0.4, 0.7, 0.9]);
    const reading = (step: Step): Step =>
      "resources" in step &&
      step.kind !== "forceRelease" &&
      step.kind !== "lead" &&
      random.chance(share)
        ? { ...step, shared: true }
        : step;
    const clients = plan.clients.map((client) => ({
      ...client,
      programs: client.programs.map((program) => program.map(reading)),
    }));
    return { ...plan, clients, fencing: false };
  }

  /** Lets the clients have owners, keep locks by autoExtend, read their signals, force releases and drain. */
  #withHandles(plan: Omit<Plan, "seed">): Omit<Plan, "seed"> {
    const random = this.#random;
    const clients = plan.clients.map((client, index) => {
      const programs = client.programs.map((program) => program.map((step) => this.#handled(step)));
      // Several processes may have one owner.
      const owner = random.pick(["", "api", "api", `api-${index}/7`]);
      return { ...client, programs, ...(owner === "" ? {} : { owner }) };
    });
    while (random.chance(0.35)) {
      const several = this.#resources.length > 1 && random.chance(0.5);
      const resources = several ? this.#resources : [random.pick(this.#resources)];
      const afterMs = random.between(0, 0.7 * this.#scaleMs);
      this.#insert(clients, { kind: "forceRelease", afterMs, resources });
    }
    if (random.chance(0.35)) {
      const afterMs = random.between(0, 0.7 * this.#scaleMs);
      const drainMs = Math.max(1, Math.round(this.#scaleMs * random.pick([0.05, 0.3, 1, 3])));
      this.#insertDrain(clients, { kind: "close", afterMs, how: "quit", drainMs });
    }
    return { ...plan, clients };
  }

  /** Puts the step anywhere in any program. */
  #insert(clients: readonly { readonly programs: Step[][] }[], step: Step): void {
    const random = this.#random;
    const programs = clients[random.below(clients.length)]?.programs ?? [];
    const program = programs[random.below(programs.length)];
    program?.splice(random.whole(0, program.length), 0, step);
  }

  /** Where a lock is handed over, mostly where the drain meets it: at its first holder or at its last. */
  #insertDrain(clients: readonly { readonly programs: Step[][] }[], drain: Step): void {
    const random = this.#random;
    const handing = clients
      .flatMap(({ programs }) => programs)
      .find((program) => program.some(({ kind }) => kind === "handOver"));
    const at = handing?.findIndex(({ kind }) => kind === "handOver") ?? 0;
    const step = handing?.[at];
    if (handing === undefined || step?.kind !== "handOver" || random.chance(0.3)) {
      this.#insert(clients, drain);
    } else if (random.chance(0.5)) {
      handing.splice(at + 1, 0, drain);
    } else {
      this.#insert(clients.slice(step.to, step.to + 1), drain);
    }
  }

  #handled(step: Step): Step {
    const random = this.#random;
    const maxHoldMs = Math.max(1, Math.round(this.#scaleMs * random.between(0.1, 3)));
    if (step.kind === "use") return random.chance(0.3) ? { ...step, maxHoldMs } : step;
    if (step.kind !== "acquire" && step.kind !== "tryAcquire") return step;
    if (random.chance(0.3)) return step;
    const autoExtend = random.chance(0.6);
    const hasMaxHold = autoExtend && random.chance(0.4);
    const isLeft = (!autoExtend || hasMaxHold) && random.chance(0.6);
    const handling = {
      signalAfterMs: random.chance(0.6) ? 0 : random.between(0, this.#scaleMs),
      holdMs: random.between(0, (isLeft ? 0.5 : 3) * this.#scaleMs),
      heedsSignal: random.chance(0.7),
      autoExtend,
      ...(hasMaxHold ? { maxHoldMs } : {}),
      isLeft,
    };
    return { ...step, handling };
  }

  #queueKeys(rest: Omit<Plan, "seed" | "faults">, faults: readonly Fault[]): Omit<Plan, "seed"> {
    const random = this.#random;
    const mute = rest.clients.flatMap((_, index) => (random.chance(0.1) ? [index] : []));
    const lostWakeUps = random.pick([0, 0, 0.05, 0.5]);
    const corruptions: Fault[] = [];
    while (random.chance(0.3)) corruptions.push(this.#corruption());
    const weather = { ...rest.weather, lostWakeUps };
    return { ...rest, weather, faults: [...faults, ...corruptions], queue: true, mute };
  }

  #corruption(): Fault {
    const random = this.#random;
    return {
      kind: "corrupt line",
      node: random.below(this.#nodeCount),
      atMs: random.between(0, 3 * this.#scaleMs),
      how: random.pick(["forgotten", "of another type", "full of nonsense", "out of order"]),
    };
  }

  #guarded(plan: Omit<Plan, "seed">): Omit<Plan, "seed"> {
    this.#guardedTtlMs = this.#longestTtlMs;
    // Clocks of clients may run slower than those of the nodes, but not by more than the drift allowance.
    if (this.#random.chance(0.5)) return { ...plan, restartGuardMs: this.#longestTtlMs };
    return { ...plan, faults: plan.faults.map((fault) => this.#outlastingTtls(fault)) };
  }

  /** Without a restart guard, a node that forgot stays away for the longest ttl. */
  #outlastingTtls(fault: Fault): Fault {
    if (fault.kind !== "crash node" || fault.withData) return fault;
    return { ...fault, ms: fault.ms + 1.02 * this.#longestTtlMs + 5 };
  }

  #makeWeather(): Weather {
    const leastMs = this.#random.pick([0.05, 0.2, 1]);
    return {
      leastMs,
      mostMs: leastMs * this.#random.pick([1.5, 3, 10]),
      straggling: this.#random.pick([0, 0.01, 0.05, 0.15]),
      straggleMs: this.#scaleMs * this.#random.pick([0.05, 0.2, 1.2]),
    };
  }

  /** Mostly at the ends of what is allowed. */
  #rate(): number {
    return 1 + DRIFT_BOUND * this.#random.pick([-1, -1, 0, 1, 1, this.#random.between(-1, 1)]);
  }

  #client(index: number): ClientPlan {
    const random = this.#random;
    const least = Math.ceil(LEAST_STEPS / this.#clientCount);
    const count = least + random.pick([0, 0, 1]);
    // What several programs ask in one turn goes to a node in one call.
    const programCount = random.pick([1, 2, 2, 3]);
    const programs = Array.from({ length: programCount }, (): Step[] => []);
    for (let step = 0; step < count; step++) {
      const program = programs[step % programCount];
      program?.push(this.#step(index, program.at(-1)?.kind));
    }
    if (random.chance(0.06)) this.#close(random.pick([programs[0] ?? [], ...programs]));
    return {
      clocks: { rate: this.#rate(), wallOffsetMs: random.whole(-60_000, 60_000) },
      resends: random.chance(0.5),
      programs,
    };
  }

  /** Puts the end of the client's Redlock among the later steps. */
  #close(program: Step[]): void {
    const at = this.#random.whole(Math.ceil(program.length / 2), program.length);
    const afterMs = this.#random.between(0, 0.7 * this.#scaleMs);
    const how = this.#random.pick(["quit", "dispose"]);
    program.splice(at, 0, { kind: "close", afterMs, how });
  }

  #step(client: number, last: Step["kind"] | undefined): Step {
    const random = this.#random;
    const afterMs = random.chance(0.5) ? 0 : random.between(0, 0.7 * this.#scaleMs);
    const settings = this.#settings();
    const mayHold = last === "acquire" || last === "tryAcquire" || last === "extend";
    const kind = mayHold ? random.pick(STEPS) : random.pick(TAKING_STEPS);
    switch (kind) {
      case "acquire":
        return {
          kind,
          afterMs,
          ...this.#taking(),
          ...(random.chance(0.15) ? { cancelAfterMs: random.between(0, this.#scaleMs) } : {}),
        };
      case "tryAcquire":
        return { kind, afterMs, ...this.#taking() };
      case "use": {
        const holdMs = random.between(0, 3 * this.#scaleMs);
        return { kind, afterMs, ...this.#taking(), holdMs, heedsSignal: random.chance(0.7) };
      }
      case "extend":
        return { kind, afterMs, ttlMs: this.#ttlMs(), settings };
      case "release":
        return { kind, afterMs, settings };
      case "handOver": {
        const to = (client + random.whole(1, this.#clientCount - 1)) % this.#clientCount;
        const holdMs = random.between(0, 0.8 * this.#scaleMs);
        return { kind, afterMs, to, ttlMs: this.#ttlMs(), holdMs };
      }
    }
  }

  #taking(): Taking {
    const several = this.#resources.length > 1 && this.#random.chance(0.4);
    const resources = several ? this.#resources : [this.#random.pick(this.#resources)];
    // Only who takes a lock in the same way waits behind others of its process.
    const isAlike = this.#random.chance(0.7);
    if (!isAlike || this.#way === undefined) {
      this.#way = { ttlMs: this.#ttlMs(), settings: this.#settings(true) };
    }
    return { resources, ...this.#way };
  }

  #ttlMs(): number {
    const factor = this.#random.pick([1, 1, 0.5, 0.25, 2, this.#random.chance(0.3) ? 6 : 1]);
    const ttlMs = Math.round(this.#scaleMs * factor);
    this.#longestTtlMs = Math.max(this.#longestTtlMs, ttlMs);
    return ttlMs;
  }

  #settings(acquiring = false): CallSettings {
    const random = this.#random;
    const retryDelay = Math.round(this.#scaleMs * random.pick([0.05, 0.15, 0.4]));
    const nodeTimeout = Math.round(this.#scaleMs * random.pick([0.05, 0.1, 0.1, 0.3, 0.3, 1.2]));
    return {
      retryCount: random.pick([0, 0, 1, 2, 5]),
      retryDelay,
      retryJitter: Math.round(retryDelay * random.pick([0, 0.5, 1])),
      ...(random.chance(0.8) ? { nodeTimeout } : {}),
      ...(acquiring ? this.#waiting() : {}),
    };
  }

  #waiting(): Partial<CallSettings> {
    const random = this.#random;
    if (random.chance(0.05)) return this.#endless();
    if (random.chance(0.5)) return {};
    return { acquireTimeout: Math.round(this.#scaleMs * random.pick([0, 0.3, 0.7, 1.5])) };
  }

  /** Such a wait must end, so the nodes must be able to answer in time. */
  #endless(): Partial<CallSettings> {
    const roundTripMs = 2 * this.#weather.mostMs;
    return {
      retryCount: -1,
      retryDelay: Math.round(this.#scaleMs * 0.3),
      nodeTimeout: Math.ceil(Math.max(2 * roundTripMs, 0.3 * this.#scaleMs)),
    };
  }

  /** The one that surely happens is one whose time comes, whatever the clients do. */
  #fault(surely: boolean): Fault {
    const random = this.#random;
    const client = random.below(this.#clientCount);
    const node = random.below(this.#nodeCount);
    const atMs = random.between(0, (surely ? 1 : 3) * this.#scaleMs);
    const ms = this.#scaleMs * random.between(0.05, 2);
    const direction: Direction = random.pick(["up", "down", "both"]);
    const link = { client, node, atMs, ms };
    const kind = surely ? random.pick(CERTAIN_FAULTS) : random.pick(FAULTS);
    switch (kind) {
      case "pause client":
        return { kind, client, atMeeting: random.whole(1, 150), ms };
      case "suspend client":
        return this.#suspends
          ? { kind, client, atMs, ms }
          : { kind: "pause client", client, atMeeting: random.whole(1, 150), ms };
      case "kill client":
        return { kind, client, atMs };
      case "step wall clock": {
        const size = this.#scaleMs * random.between(0.1, 3);
        const back = !this.#suspends && random.chance(0.6);
        return { kind, client, atMs, byMs: Math.round(back ? -size : size) };
      }
      case "pause node":
        return { kind, node, atMs, ms };
      case "crash node": {
        const withData = random.chance(0.6);
        return { kind, node, atMs, ms, withData };
      }
      case "partition":
        return { kind, ...link, direction, resets: random.chance(0.5) };
      case "loss":
        return { kind, ...link, direction };
      case "reset":
        return { kind, client, node, atSend: random.whole(1, 20) };
      case "slow":
        return { kind, ...link, extraMs: this.#scaleMs * random.between(0.02, 0.5) };
    }
  }
}
