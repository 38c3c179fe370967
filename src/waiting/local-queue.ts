import type { Environment } from "../runtime/environment.js";
import type { Lock } from "../lock.js";
import { isAboutKeys } from "../nodes/coalescer.js";
import type { Node } from "../nodes/node.js";
import { failureIn } from "../operations/hand-over.js";
import type { QueueKeys } from "../operations/queue.js";
import { NodeClocks } from "./node-clocks.js";
import { Pace } from "./pace.js";
import { lineKeysOf } from "./queue-keys.js";
import { retry } from "./retry.js";
import { Subscriptions } from "./subscriptions.js";
import type { Companions, Shared, Wait } from "./wait.js";
import { Waiter } from "./waiter.js";

/** A waiter between those who came before and after it; one without a waiter is where the line begins and ends. */
class Link {
  before: Link = this;
  after: Link = this;

  constructor(readonly waiter?: Waiter) {}

  goBehind(before: Link): void {
    this.before = before;
    this.after = before.after;
    before.after.before = this;
    before.after = this;
  }

  readonly leave = (): void => {
    this.before.after = this.after;
    this.after.before = this.before;
  };
}

/**
 * Those of this process who wait for the same keys, in their order. Only the first of them stands in line on the nodes.
 * A list of links: one who enters mostly goes last, and who leaves may be anywhere.
 */
class LocalQueue implements Companions {
  readonly #end = new Link();
  lastAttempt: Companions["lastAttempt"];

  get isEmpty(): boolean {
    return this.#end.after === this.#end;
  }

  hurry(): void {
    this.#end.after.waiter?.hurry();
  }

  /** Gives what takes it out again. */
  enter(waiter: Waiter): () => void {
    let { before } = this.#end;
    while (before.waiter !== undefined && before.waiter.sinceMs > waiter.sinceMs) {
      ({ before } = before);
    }
    const link = new Link(waiter);
    link.goBehind(before);
    this.standFirst();
    return link.leave;
  }

  readonly standFirst = (): void => {
    this.#end.after.waiter?.stand();
  };
}

/** The lines in which this process waits. */
export class LocalQueues {
  readonly #shared: Shared;
  readonly #report: (error: Error, node?: Node) => void;
  readonly #saidNoLine = new Set<Node>();
  readonly #saidNoCall = new Set<Node>();
  #hasSaidNoKeys = false;
  readonly #lines = new Map<string, LocalQueue>();

  constructor(
    nodes: readonly Node[],
    environment: Environment,
    report: (error: Error, node?: Node) => void,
  ) {
    this.#report = report;
    this.#shared = {
      nodes,
      environment,
      subscriptions: new Subscriptions(nodes, environment, report),
      clocks: new NodeClocks(environment),
      pace: new Pace(),
      onRefusal: this.#onRefusal,
    };
  }

  /** The last attempt of those who wait for these keys already: a further one would be refused like it. */
  lastAttempt(keys: readonly string[]): Companions["lastAttempt"] {
    return this.#lines.size === 0 ? undefined : this.#lines.get(nameOf(keys))?.lastAttempt;
  }

  /** Waits until an attempt gives a lock, or the waiting is over. */
  async wait(wait: Wait): Promise<Lock | undefined> {
    const name = nameOf(wait.keys);
    let line = this.#lines.get(name);
    if (line === undefined) this.#lines.set(name, (line = new LocalQueue()));
    // Who comes from now on goes behind it, without an attempt of its own.
    const { last: round } = wait.history;
    if (round !== undefined) line.lastAttempt ??= { round, atMs: wait.start.monotonicMs };
    const waiter = new Waiter(wait, line, this.#shared);
    const leave = line.enter(waiter);
    let lock: Lock | undefined;
    try {
      lock = await retry(
        wait.retries,
        () => waiter.pause(),
        () => waiter.tick(),
      );
      return lock;
    } finally {
      waiter.leave(lock);
      leave();
      if (line.isEmpty) this.#lines.delete(name);
      // The holder's own work goes first: there is time until its release.
      else this.#shared.environment.afterPoll(line.standFirst);
    }
  }

  /** The keys of these locks' lines; undefined where there can be none, which is said once. */
  keysFor(keys: readonly string[]): QueueKeys | undefined {
    const lineKeys = lineKeysOf(keys);
    if (lineKeys === undefined && !this.#hasSaidNoKeys) {
      this.#hasSaidNoKeys = true;
      this.#report(
        new Error(
          `There can be no line for ${keys.join(", ")}: its braces are no hash tag. Who waits for it polls. ` +
            "Give the resource a name without braces, or with a {tag}, or set `queue: false`.",
        ),
      );
    }
    return lineKeys;
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

  /** Says once of each node that the next in line could not be called there: the lock was free at once instead. */
  onHandOver(reply: unknown, node: Node): void {
    const failure = failureIn(reply);
    if (failure === undefined || this.#saidNoCall.has(node)) return;
    this.#saidNoCall.add(node);
    const error = new Error(
      `${node.name} released a lock, but could not call who waits for it: ${failure}. They poll instead. ` +
        "Give the client the right to PUBLISH, or set `queue: false`.",
    );
    this.#report(error, node);
  }

  close(): void {
    this.#shared.subscriptions.close();
  }
}

function nameOf(keys: readonly string[]): string {
  return JSON.stringify(keys.toSorted());
}
