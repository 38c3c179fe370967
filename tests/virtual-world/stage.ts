import type { Environment } from "../../src/runtime/environment.js";
import { type Internals, withInternals } from "../../src/internals.js";
import { makeNodes, type NodeEntry } from "../../src/nodes/entries.js";
import type { Node } from "../../src/nodes/node.js";
import { Redlock } from "../../src/redlock.js";
import type { RedlockSettings } from "../../src/settings.js";
import { Host } from "./host.js";
import { library } from "./library.js";
import { Link } from "./link.js";
import { SimulatedNode } from "./node.js";
import { questionsIn } from "./questions.js";
import { Random } from "./random.js";
import { type Actor, World } from "./world.js";

/** One way of a message; a round trip is twice that. */
const DELAY_MS = 1;
const WEATHER = { leastMs: DELAY_MS, mostMs: DELAY_MS, straggling: 0, straggleMs: 0 };
const CLOCKS = { rate: 1, wallOffsetMs: 0 };
/** What is left of a test's operations has this long to end; no ttl here is longer. */
const SETTLE_MS = 30_000;
const MOST_EVENTS = 50_000;

const SCRIPTS = Object.values(library).filter((part) => typeof part === "object");

/** Who performs a test: never busy, and on no machine of its own. */
const tester: Actor = {
  dead: false,
  busyUntilMs: 0,
  beginTurn: () => undefined,
  endTurn: () => undefined,
};

/** No timer is late, and no message. */
class NoChance extends Random {
  override unit(): number {
    return 0;
  }
}

/** A command that reached a server. */
export interface Asked {
  readonly atMs: number;
  /** The server's index. */
  readonly node: number;
  readonly command: string;
  /** The operation, or the command: of several operations in one call, each. */
  readonly what: string;
  /** Of one of several operations, as its script takes them alone. */
  readonly args: readonly string[];
}

/** A machine with connections to all servers. */
export interface Machine {
  readonly host: Host;
  readonly links: readonly Link[];
  readonly internals: Internals;
  /** What `Environment.random` gives: 0.5 leaves a delay as it is. */
  chance: number;
}

export interface Client extends Machine {
  readonly redlock: Redlock;
  /** The `error` events, in words. */
  readonly errors: string[];
  readonly onError: (error: unknown, node: unknown) => void;
}

/** Servers and clients on virtual time, where all takes exactly as long as the test says. */
export class Stage {
  readonly world = new World();
  readonly servers: readonly SimulatedNode[];
  readonly asked: Asked[] = [];
  readonly #machines: Machine[] = [];

  constructor(serverCount: number) {
    this.servers = Array.from({ length: serverCount }, (_, index) => {
      const server = new SimulatedNode(this.world, index, { rate: 1, offsetMs: 0 });
      for (const { text } of SCRIPTS) server.execute("script", ["LOAD", text]);
      server.onExecute = (_server, command, args, run) => {
        const asked = { atMs: this.world.nowMs, node: index, command };
        const questions = questionsIn(command, args, library);
        if (questions.length > 1) {
          for (const { kind, alone } of questions)
            this.asked.push({ ...asked, what: kind, args: alone });
        } else {
          const [question] = questions;
          const what = command === "set" ? command : (question?.kind ?? command);
          this.asked.push({ ...asked, what, args });
        }
        return run();
      };
      return server;
    });
  }

  /** True time; a host's wall clock is 1000 s ahead of it. */
  get nowMs(): number {
    return this.world.nowMs;
  }

  /** @param own whether the library makes the connections, as for a URL */
  machine(own = true): Machine {
    const host = new Host(this.world, this.#machines.length, new NoChance(0), CLOCKS, 0);
    const observer = { onSend: () => undefined };
    const links = this.servers.map(
      (server) => new Link(this.world, host, server, new NoChance(0), WEATHER, false, observer),
    );
    const checkNode = (entry: NodeEntry) => {
      const link = links[Number(entry)];
      if (link === undefined) throw new Error("no such server");
      const client = { name: link.name, url: `redis://${link.name}` };
      return { client, own, connect: () => link };
    };
    // A test speaks for every machine, whosever turn it is: its timers count from now.
    const now = (): void => {
      host.turnStartMs = this.world.nowMs;
    };
    const environment: Environment = {
      ...host.environment,
      setTimer: (callback, delayMs) => {
        now();
        return host.environment.setTimer(callback, delayMs);
      },
      setBackgroundTimer: (callback, delayMs) => {
        now();
        return host.environment.setBackgroundTimer(callback, delayMs);
      },
      random: () => machine.chance,
    };
    const machine: Machine = {
      host,
      links,
      internals: { environment, checkNode },
      chance: 0.5,
    };
    this.#machines.push(machine);
    return machine;
  }

  /** A Redlock that is not connected yet: it polls and has no restart guard, if the settings do not say otherwise. */
  client(settings: RedlockSettings = {}, machine = this.machine()): Client {
    const redlock = new Redlock(
      machine.links.map((_, index) => String(index)),
      withInternals(machine.internals, {
        queue: false,
        restartGuard: false,
        owner: "",
        ...settings,
      }),
    );
    const errors: string[] = [];
    const onError = (error: unknown, node: unknown): void => {
      errors.push(`${String(node)} ${String(error)}`);
    };
    redlock.on("error", onError);
    return Object.assign(machine, { redlock, errors, onError });
  }

  /** A Redlock that is connected to every server. */
  async connect(settings?: RedlockSettings): Promise<Client> {
    const client = this.client(settings);
    await this.sleep(10);
    return client;
  }

  /** The library's nodes alone, connected. */
  async nodes(): Promise<{ readonly nodes: readonly Node[]; readonly machine: Machine }> {
    const machine = this.machine();
    const nodes = nodesOf(machine);
    await this.sleep(10);
    return { nodes, machine };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.world.after(ms, resolve, tester);
    });
  }

  /** What a promise gives, and after how long. */
  async timed<T>(promise: Promise<T>): Promise<{ readonly ms: number; readonly gives: T }> {
    const startMs = this.nowMs;
    const gives = await promise;
    return { ms: this.nowMs - startMs, gives };
  }

  /** The commands that reached servers, of this name, since a moment. */
  questions(what: string, sinceMs = 0): Asked[] {
    return this.asked.filter((asked) => asked.what === what && asked.atMs >= sinceMs);
  }

  /** The servers that hold this value under the key. */
  holders(key: string, value: string): number[] {
    return this.servers.flatMap(({ redis, clockMs, index }) =>
      redis.peek(key, clockMs)?.value === value ? [index] : [],
    );
  }

  /** Ms until the key expires, for each server; 0 where it holds none. */
  remainingMs(key: string): number[] {
    return this.servers.map(({ redis, clockMs }) => {
      const entry = redis.peek(key, clockMs);
      return entry === undefined ? 0 : entry.expiresAtMs - clockMs;
    });
  }

  /** Puts another's lock on these servers. */
  occupy(indexes: readonly number[], key: string, ttlMs = 20_000): void {
    for (const server of this.#at(indexes)) {
      server.redis.execute("set", [key, "another's", "PX", String(ttlMs)], server.clockMs);
    }
  }

  /** Takes the key away, as an eviction or a loss of data does. */
  forget(indexes: readonly number[], key: string): void {
    for (const { redis, clockMs } of this.#at(indexes)) redis.execute("del", [key], clockMs);
  }

  /** These servers answer nothing for so long. */
  freeze(indexes: readonly number[], ms = 1_000_000): void {
    for (const server of this.#at(indexes)) server.pause(ms);
  }

  /** These servers are gone, and the connections to them; it takes 1 ms until the clients see it. */
  crash(indexes: readonly number[]): void {
    for (const server of this.#at(indexes)) {
      server.crash();
      for (const { links } of this.#machines) links[server.index]?.reset();
    }
  }

  /** These servers start again; it takes 50 ms more until the clients are connected to them. */
  async restart(indexes: readonly number[], withData = false): Promise<void> {
    this.crash(indexes);
    await this.sleep(5);
    for (const server of this.#at(indexes)) server.restart(withData);
  }

  /** Runs a test's body, and then all that it left behind: nothing of it may stay. */
  play(body: () => Promise<void>): void {
    let outcome: { readonly error?: unknown } | undefined;
    this.world.after(
      0,
      () => {
        body().then(
          () => {
            outcome = {};
          },
          (error: unknown) => {
            outcome = { error };
          },
        );
      },
      tester,
    );
    while (outcome === undefined) this.#step("the test waits for ever");
    if ("error" in outcome) throw outcome.error;
    const endMs = this.world.nowMs + SETTLE_MS;
    this.world.at(endMs, () => undefined);
    while (this.world.nowMs < endMs) this.#step("nothing happens");
    for (const { host } of this.#machines) {
      if (host.timers.size > 0) throw new Error(`${host.name} has ${host.timers.size} timers left`);
    }
  }

  #step(complaint: string): void {
    if (!this.world.step() || this.world.events > MOST_EVENTS) throw new Error(complaint);
  }

  #at(indexes: readonly number[]): SimulatedNode[] {
    return this.servers.filter(({ index }) => indexes.includes(index));
  }
}

/** A test on virtual time, with five servers if it does not say otherwise. */
export function played(
  body: (stage: Stage) => Promise<void>,
  serverCount = 5,
): () => Promise<void> {
  return () =>
    new Promise((resolve, reject) => {
      // Out of the microtasks, which the simulator must be able to run to their end.
      setImmediate(() => {
        const stage = new Stage(serverCount);
        try {
          stage.play(() => body(stage));
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
}

export function nodesOf({ links, internals }: Machine): Node[] {
  const { environment, checkNode } = internals;
  const entries = links.map((_, index) => String(index));
  return makeNodes(entries, environment, checkNode).map(({ node }) => node);
}

type Rejection = Error & {
  readonly code?: unknown;
  readonly attempts?: readonly unknown[];
  readonly resources?: readonly string[];
};

/** What the promise rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<Rejection> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof Error) return outcome;
  throw new Error("expected a rejection");
}
