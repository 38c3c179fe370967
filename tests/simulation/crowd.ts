import type { NodeEntry } from "../../src/nodes/entries.js";
import type { RedlockSettings } from "../../src/settings.js";
import { Host } from "../virtual-world/host.js";
import type { Library } from "../virtual-world/library.js";
import { Link, type Weather } from "../virtual-world/link.js";
import { SimulatedNode } from "../virtual-world/node.js";
import { Random } from "../virtual-world/random.js";
import { stepWatched } from "./watchdog.js";
import { World } from "../virtual-world/world.js";

/** One process of a crowd. */
export interface Member {
  /** Each takes its turns, one after the other. Default 1. */
  readonly workers?: number;
  /** Default "r" alone. */
  readonly resources?: readonly string[];
  /** One way to each node, in ms, and how much longer a message may take. Default 0.1, 0.05. */
  readonly wayMs?: readonly number[];
  readonly variationMs?: number;
  readonly clockAheadMs?: number;
  /** It cannot hear who is next. */
  readonly isMute?: boolean;
  readonly workMs?: number;
  /** Ms between a turn and the next. Default 0. */
  readonly thinkMs?: number;
  /** It stops after so many turns. */
  readonly turns?: number;
  /** When it begins. */
  readonly fromMs?: number;
  readonly settings?: RedlockSettings;
}

export interface CrowdOptions {
  readonly members: readonly Member[];
  readonly forMs: number;
  readonly seed?: number;
  readonly nodeCount?: number;
  readonly ttlMs?: number;
  readonly lostWakeUps?: number;
  /** Called when the time comes. */
  readonly events?: readonly { readonly atMs: number; readonly run: (crowd: Crowd) => void }[];
}

/** What came of it. */
export interface Result {
  /** Of each worker of each member. */
  readonly turns: readonly (readonly number[])[];
  /** From asking to holding, in ms, in the order of the turns. */
  readonly waitsMs: readonly number[];
  /** From the call of one's release to the next one's holding. */
  readonly handOversMs: readonly number[];
  /** From the call of a release to its end. */
  readonly releasesMs: readonly number[];
  /** Which member had each turn. */
  readonly order: readonly number[];
  /** What the calls rejected with, and the `error` events but for votes. */
  readonly errors: readonly string[];
  /** Commands that reached nodes. */
  readonly commands: number;
}

/** Who holds a resource, alone or as one of several readers. */
interface Holder {
  readonly name: string;
  readonly reads: boolean;
}

/**
 * Processes that take turns under a lock, on virtual time and the whole library: to measure how a line
 * moves. Throws where two hold the same resource, unless both read.
 */
export class Crowd {
  readonly nodes: readonly SimulatedNode[];
  readonly hosts: readonly Host[];
  readonly links: readonly (readonly Link[])[];
  readonly world = new World();
  readonly #options: CrowdOptions;
  readonly #turns: number[][];
  readonly #waitsMs: number[] = [];
  readonly #handOversMs: number[] = [];
  readonly #releasesMs: number[] = [];
  readonly #order: number[] = [];
  readonly #errors: string[] = [];
  readonly #holders = new Map<string, Holder[]>();
  readonly #releasedMs = new Map<string, number>();
  #commands = 0;

  constructor(options: CrowdOptions, library: Library) {
    this.#options = options;
    const { members, nodeCount = 5, seed = 1, lostWakeUps = 0 } = options;
    this.nodes = Array.from({ length: nodeCount }, (_, index) => {
      const node = new SimulatedNode(this.world, index, { rate: 1, offsetMs: 0 });
      node.onExecute = (_node, _command, _args, run) => {
        this.#commands += 1;
        return run();
      };
      return node;
    });
    this.#turns = members.map(({ workers = 1 }) => Array.from({ length: workers }, () => 0));
    this.hosts = members.map(({ clockAheadMs = 0 }, index) => {
      const clocks = { rate: 1, wallOffsetMs: clockAheadMs };
      return new Host(this.world, index, new Random(seed, index), clocks, 0);
    });
    this.links = members.map(({ wayMs, variationMs = 0.05, isMute = false }, index) =>
      this.nodes.map((node) => {
        const leastMs = wayMs?.[node.index] ?? 0.1;
        const weather: Weather = {
          leastMs,
          mostMs: leastMs + variationMs,
          straggling: 0,
          straggleMs: 0,
          lostWakeUps,
        };
        const host = this.hosts[index];
        if (host === undefined) throw new Error("a member without a host");
        const random = new Random(seed, 100 + index * nodeCount + node.index);
        const observer = { onSend: () => undefined };
        const link = new Link(this.world, host, node, random, weather, false, observer);
        link.isMute = isMute;
        return link;
      }),
    );
    for (const [index, member] of members.entries()) this.#start(index, member, library);
    for (const { atMs, run } of options.events ?? []) {
      this.world.at(atMs, () => {
        run(this);
      });
    }
  }

  run(): Result {
    const { forMs } = this.#options;
    this.world.at(forMs, () => undefined);
    stepWatched("a crowd", () => this.world.nowMs < forMs && this.world.step());
    return {
      turns: this.#turns,
      waitsMs: this.#waitsMs,
      handOversMs: this.#handOversMs,
      releasesMs: this.#releasesMs,
      order: this.#order,
      errors: this.#errors,
      commands: this.#commands,
    };
  }

  #start(index: number, member: Member, library: Library): void {
    const { environment } = this.hosts[index] ?? {};
    const links = this.links[index] ?? [];
    if (environment === undefined) throw new Error("a member without a host");
    const checkNode = (entry: NodeEntry) => {
      const link = links[Number(entry)];
      if (link === undefined) throw new Error("no such node");
      const client = { name: link.name, url: `redis://${link.name}` };
      return { client, own: true, connect: () => link };
    };
    const redlock = new library.Redlock(
      links.map((_, node) => String(node)),
      {
        retryCount: -1,
        restartGuard: false,
        ...member.settings,
        owner: "",
        [library.internalsKey]: { environment, checkNode },
      },
    );
    redlock.on("error", (error: Error) => {
      if (error.name !== "ResourceLockedError") this.#errors.push(error.message);
    });
    for (const worker of this.#turns[index]?.keys() ?? []) {
      this.world.at(
        member.fromMs ?? 0,
        () => {
          this.#takeTurns(index, worker, member, redlock).catch((error: unknown) => {
            this.#errors.push(String(error));
          });
        },
        this.hosts[index],
      );
    }
  }

  async #takeTurns(
    index: number,
    worker: number,
    { resources = ["r"], workMs = 2, thinkMs = 0, turns = Infinity }: Member,
    redlock: InstanceType<Library["Redlock"]>,
  ): Promise<void> {
    const { ttlMs = 2000 } = this.#options;
    const host = this.hosts[index];
    const own = this.#turns[index];
    if (host === undefined || own === undefined) return;
    while ((own[worker] ?? 0) < turns) {
      const askedMs = this.world.nowMs;
      const lock = await redlock.acquire(resources, ttlMs);
      const nowMs = this.world.nowMs;
      this.#waitsMs.push(nowMs - askedMs);
      this.#order.push(index);
      own[worker] = (own[worker] ?? 0) + 1;
      const holder: Holder = { name: host.name, reads: lock.shared };
      // Each permit has a holder of its own.
      const held = resources.map((name) => `${name}${lock.permit ?? ""}`);
      for (const resource of held) {
        const others = this.#holders.get(resource) ?? [];
        const rival = others.find(({ reads }) => !(reads && holder.reads));
        if (rival !== undefined) {
          throw new Error(`${host.name} has ${resource}, which ${rival.name} holds`);
        }
        this.#holders.set(resource, [...others, holder]);
        const releasedMs = this.#releasedMs.get(resource);
        // A reader that joins others is handed nothing over.
        if (releasedMs !== undefined && others.length === 0) {
          this.#handOversMs.push(nowMs - releasedMs);
        }
      }
      await host.sleep(workMs);
      for (const resource of held) this.#free(resource, holder);
      const endMs = this.world.nowMs;
      await lock.release();
      this.#releasesMs.push(this.world.nowMs - endMs);
      if (thinkMs > 0) await host.sleep(thinkMs);
    }
  }

  /** A process dies: its connections are closed. */
  kill(index: number): void {
    const host = this.hosts[index];
    if (host === undefined) return;
    host.dead = true;
    for (const link of this.links[index] ?? []) link.disconnect();
    for (const node of this.nodes) {
      for (const [channel, listeners] of node.listeners) {
        if (channel.startsWith(`redlock:${String.fromCharCode(97 + index)}`)) listeners.clear();
      }
    }
    for (const [resource, holders] of this.#holders) {
      for (const holder of holders) if (holder.name === host.name) this.#free(resource, holder);
    }
  }

  #free(resource: string, holder: Holder): void {
    const others = this.#holders.get(resource)?.filter((other) => other !== holder) ?? [];
    this.#holders.set(resource, others);
    this.#releasedMs.set(resource, this.world.nowMs);
  }
}

/** Call it in a `turn`. */
export function crowd(options: CrowdOptions, library: Library): Result {
  return new Crowd(options, library).run();
}

/** Four processes with four workers each. */
export const SIXTEEN: readonly Member[] = Array.from({ length: 4 }, () => ({ workers: 4 }));

export function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(share * (values.length - 1))] ?? NaN;
}
