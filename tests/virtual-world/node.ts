import { RedisModel } from "../../src/testing/redis/model.js";
import { type Reply, ReplyError } from "../../src/testing/redis/reply.js";
import type { World } from "./world.js";

export interface NodeClock {
  readonly rate: number;
  readonly offsetMs: number;
}

/** A Redis server's process and machine. */
export class SimulatedNode {
  readonly index: number;
  readonly name: string;
  readonly redis = new RedisModel();
  down = false;
  /** Counts its starts: what was sent to an earlier one is not read by a later one. */
  incarnation = 1;
  /** A command for which it has only an error. */
  refuses: string | undefined;
  refusal = "NOPERM this user has no permissions to run the command";
  /** QueueReply before and after each command. */
  onExecute:
    | ((node: SimulatedNode, command: string, args: readonly string[], run: () => Reply) => Reply)
    | undefined;
  /** Those who listen to each channel. */
  readonly listeners = new Map<string, Set<(message: string) => void>>();
  readonly #world: World;
  readonly #clock: NodeClock;
  #pausedUntilMs = 0;
  #inbox: (() => void)[] = [];

  constructor(world: World, index: number, clock: NodeClock) {
    this.#world = world;
    this.index = index;
    this.name = `node ${index + 1}`;
    this.#clock = clock;
    this.redis.onPublish = (channel, message) => {
      const listeners = this.listeners.get(channel) ?? [];
      for (const listener of listeners) listener(message);
      return this.listenerCount(channel);
    };
  }

  listenerCount(channel: string): number {
    return this.listeners.get(channel)?.size ?? 0;
  }

  get paused(): boolean {
    return this.#pausedUntilMs > this.#world.nowMs;
  }

  /** Its own clock, in whole ms, as Redis reads it. */
  get clockMs(): number {
    return Math.floor(1_000_000 + this.#clock.offsetMs + this.#world.nowMs * this.#clock.rate);
  }

  /** Reads a message now, or when it goes on. */
  receive(message: () => void): void {
    if (this.down) return;
    if (this.paused) this.#inbox.push(message);
    else message();
  }

  execute(command: string, args: readonly string[]): Reply {
    const run = (): Reply => {
      if (command === this.refuses) throw new ReplyError(this.refusal);
      return this.redis.execute(command, args, this.clockMs);
    };
    return this.onExecute === undefined ? run() : this.onExecute(this, command, args, run);
  }

  pause(ms: number): void {
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, this.#world.nowMs + ms);
    this.#world.at(this.#pausedUntilMs, () => {
      if (this.paused) return;
      const inbox = this.#inbox;
      this.#inbox = [];
      for (const message of inbox) this.receive(message);
    });
  }

  crash(): void {
    this.down = true;
    this.#inbox = [];
    this.listeners.clear();
  }

  restart(withData: boolean): void {
    this.down = false;
    this.incarnation += 1;
    this.redis.restart(withData, this.clockMs);
  }
}
