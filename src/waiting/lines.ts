import type { Environment } from "../environment.js";
import type { Lock } from "../lock.js";
import { isAboutKeys } from "../node/coalescer.js";
import type { Node } from "../node/node.js";
import { NodeClocks } from "./node-clocks.js";
import { Pace } from "./pace.js";
import { retry } from "./retry.js";
import { WakeUps } from "./wake-ups.js";
import { type Place, type Shared, type Wait, Waiter } from "./waiter.js";

/** Those of this process who wait for the same keys, in their order. Only the first of them stands in line on the nodes. */
class Line implements Place {
  readonly #waiters: Waiter[] = [];
  lastAttempt: Place["lastAttempt"];

  get isEmpty(): boolean {
    return this.#waiters.length === 0;
  }

  hurry(): void {
    this.#waiters[0]?.hurry();
  }

  enter(waiter: Waiter): void {
    const before = this.#waiters.findLastIndex(({ sinceMs }) => sinceMs <= waiter.sinceMs);
    this.#waiters.splice(before + 1, 0, waiter);
    this.standFirst();
  }

  leave(waiter: Waiter): void {
    this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
  }

  readonly standFirst = (): void => {
    this.#waiters[0]?.stand();
  };
}

/** The lines in which this process waits. */
export class Lines {
  readonly #shared: Shared;
  readonly #report: (error: Error, node: Node) => void;
  readonly #saidNoLine = new Set<Node>();
  readonly #lines = new Map<string, Line>();

  constructor(
    nodes: readonly Node[],
    environment: Environment,
    report: (error: Error, node: Node) => void,
  ) {
    this.#report = report;
    this.#shared = {
      nodes,
      environment,
      wakeUps: new WakeUps(nodes, environment, report),
      clocks: new NodeClocks(environment),
      pace: new Pace(),
      onRefusal: this.#onRefusal,
    };
  }

  /** The last attempt of those who wait for these keys already: a further one would be refused like it. */
  lastAttempt(keys: readonly string[]): Place["lastAttempt"] {
    return this.#lines.size === 0 ? undefined : this.#lines.get(nameOf(keys))?.lastAttempt;
  }

  /** Waits until an attempt gives a lock, or the waiting is over. */
  async wait(wait: Wait): Promise<Lock | undefined> {
    const name = nameOf(wait.keys);
    let line = this.#lines.get(name);
    if (line === undefined) this.#lines.set(name, (line = new Line()));
    // Who comes from now on goes behind it, without an attempt of its own.
    const { last: round } = wait.history;
    if (round !== undefined) line.lastAttempt ??= { round, atMs: wait.start.monotonicMs };
    const waiter = new Waiter(wait, line, this.#shared);
    line.enter(waiter);
    let lock: Lock | undefined;
    try {
      lock = await retry(
        wait.retries,
        () => waiter.pause(),
        () => waiter.tick(),
      );
      return lock;
    } finally {
      waiter.leave(lock !== undefined);
      line.leave(waiter);
      if (line.isEmpty) this.#lines.delete(name);
      // The holder's own work goes first: there is time until its release.
      else this.#shared.environment.afterPoll(line.standFirst);
    }
  }

  /** Says once of each node that it keeps no line: not when it is down, or slow. */
  readonly #onRefusal = (cause: Error, node: Node): void => {
    if (!isAboutKeys(cause) || this.#saidNoLine.has(node)) return;
    this.#saidNoLine.add(node);
    const error = new Error(
      `Nobody who waits for a lock can stand in line on ${node.name}: ${cause.message}. They poll instead. ` +
        "Allow the client the keys of the line, or set `queue: false`.",
      { cause },
    );
    this.#report(error, node);
  };

  close(): void {
    this.#shared.wakeUps.close();
  }
}

function nameOf(keys: readonly string[]): string {
  return JSON.stringify(keys.toSorted());
}
