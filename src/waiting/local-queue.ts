import type { Environment } from "../runtime/environment.js";
import type { Lock } from "../lock.js";
import { Link } from "../runtime/link.js";
import { isAboutKeys } from "../nodes/coalescer.js";
import type { Node } from "../nodes/node.js";
import { failureIn } from "../operations/hand-over.js";
import type { QueueKeys } from "../operations/queue.js";
import { NodeClocks } from "./node-clocks.js";
import { Pace } from "./pace.js";
import { queueKeysOf } from "./queue-keys.js";
import { Subscriptions } from "./subscriptions.js";
import type { LocalWaiters, Shared, Wait } from "./wait.js";
import { Waiter } from "./waiter.js";

/** A place further back is not counted one by one. */
const MOST_COUNTED = 10_000;

/**
 * The waiters of this process with the same `queueName`, in their order. Only the first of them is in the queue on the
 * nodes.
 *
 * A linked list: a new waiter mostly goes to the end, and a waiter may leave from anywhere.
 */
class LocalQueue implements LocalWaiters {
  readonly #end = new Link<Waiter>();
  #size = 0;
  lastAttempt: LocalWaiters["lastAttempt"];

  get size(): number {
    return this.#size;
  }

  /** How many waiters of other processes are before the first one of this process, as far as it knows. */
  get rank(): number {
    return this.#end.after.item?.rank ?? 0;
  }

  hurry(): void {
    this.#end.after.item?.hurry();
  }

  enter(waiter: Waiter): void {
    let { before } = this.#end;
    while (before.item !== undefined && before.item.sinceMs > waiter.sinceMs) {
      ({ before } = before);
    }
    waiter.link.goBehind(before);
    this.#size += 1;
    this.joinFirst();
  }

  leave(waiter: Waiter): void {
    waiter.link.leave();
    this.#size -= 1;
  }

  // Counts, since mostly there are few: who came first gives up first.
  aheadOf({ link }: Waiter): number {
    let count = 0;
    let { after } = this.#end;
    while (after !== link && count < MOST_COUNTED) {
      count += 1;
      ({ after } = after);
    }
    return count + this.rank;
  }

  readonly joinFirst = (): void => {
    this.#end.after.item?.join();
  };
}

/** The queues in which this process waits. */
export class LocalQueues {
  readonly #shared: Shared;
  readonly #report: (error: Error, node?: Node) => void;
  readonly #reportedNoQueue = new Set<Node>();
  readonly #reportedNoNotify = new Set<Node>();
  #hasReportedNoKeys = false;
  readonly #queues = new Map<string, LocalQueue>();

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

  /** The last attempt of those with whom this call would wait: the nodes would refuse another one in the same way. */
  lastAttempt(call: Pick<Wait, "queueName">): LocalWaiters["lastAttempt"] {
    return this.#queues.size === 0 ? undefined : this.#queues.get(call.queueName)?.lastAttempt;
  }

  /** Waits until an attempt acquires the lock, or the time or the retries are used up. */
  async wait(wait: Wait): Promise<Lock | undefined> {
    const name = wait.queueName;
    // Each reader is in the queue on the nodes, so that all are notified together.
    let queue = wait.shared ? new LocalQueue() : this.#queues.get(name);
    if (queue === undefined) this.#queues.set(name, (queue = new LocalQueue()));
    // Later callers wait behind this one, without a first attempt of their own.
    const { last: round } = wait.history;
    if (round !== undefined) queue.lastAttempt ??= { round, atMs: wait.start.monotonicMs };
    const waiter = new Waiter(wait, queue, this.#shared);
    const { size: sizeBefore } = queue;
    const ahead = sizeBefore + queue.rank;
    queue.enter(waiter);
    wait.onQueued(waiter);
    let lock: Lock | undefined;
    try {
      lock = await waiter.untilGiven();
      const aheadThen = sizeBefore > 0 ? ahead : waiter.firstRank;
      // One that waits behind no other of its process knows its place once it has joined the queue on the nodes.
      if (lock === undefined && aheadThen !== undefined) {
        wait.onGivenUp({ aheadThen, ahead: waiter.ahead });
      }
      return lock;
    } finally {
      waiter.leave(lock);
      queue.leave(waiter);
      if (queue.size === 0 && queue === this.#queues.get(name)) this.#queues.delete(name);
      // The new holder's own work goes first. The next waiter has until its release to join the queue.
      if (queue.size > 0) this.#shared.environment.afterPoll(queue.joinFirst);
    }
  }

  /** Returns the keys of these locks and their queues. If they can have no queue: undefined, and one `error` event. */
  keysFor(keys: readonly string[]): QueueKeys | undefined {
    const queueKeys = queueKeysOf(keys);
    if (queueKeys === undefined && !this.#hasReportedNoKeys) {
      this.#hasReportedNoKeys = true;
      this.#report(
        new Error(
          `There can be no queue for ${keys.join(", ")}: its braces are not a hash tag. Callers that wait for it poll. ` +
            "Name the resource without braces, or with a {tag}, or set `queue: false`.",
        ),
      );
    }
    return queueKeys;
  }

  /** Reports once per node that it refuses the queue's keys. A node that is down or slow is not reported. */
  readonly #onRefusal = (cause: Error, node: Node): void => {
    if (!isAboutKeys(cause) || this.#reportedNoQueue.has(node)) return;
    this.#reportedNoQueue.add(node);
    const error = new Error(
      `Callers that wait for a lock cannot join the queue on ${node.name}: ${cause.message}. They poll instead. ` +
        "Allow the client the keys of the queue, or set `queue: false`.",
      { cause },
    );
    this.#report(error, node);
  };

  /** Reports once per node that it could not notify the next waiter. It deleted the key instead. */
  onHandOver(reply: unknown, node: Node): void {
    const failure = failureIn(reply);
    if (failure === undefined || this.#reportedNoNotify.has(node)) return;
    this.#reportedNoNotify.add(node);
    const error = new Error(
      `${node.name} released a lock, but could not notify the next waiter: ${failure}. Waiters poll instead. ` +
        "Give the client the right to PUBLISH, or set `queue: false`.",
    );
    this.#report(error, node);
  }

  close(): void {
    this.#shared.subscriptions.close();
  }
}
