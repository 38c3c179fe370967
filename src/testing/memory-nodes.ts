import { ServerClock } from "./clock.js";
import { MemoryNode } from "./memory-node.js";
import { MemoryServer } from "./server.js";

/** So many nodes with which each test still ends in no time. */
const MOST_NODES = 100;

/** As many nodes as the number says; an array of unknown length for a number that is not a literal. */
export type MemoryNodes<
  Count extends number,
  Nodes extends MemoryNode[] = [],
> = number extends Count
  ? MemoryNode[]
  : Nodes["length"] extends Count
    ? Nodes
    : MemoryNodes<Count, [...Nodes, MemoryNode]>;

let groups = 0;

/**
 * Makes independent Redis servers in this process, for unit tests of code that uses this library. `new Redlock(…)` takes
 * them as nodes, and is the real library: it locks, waits in queues, extends and loses locks.
 *
 * Replies need no timer, so that nothing stands still under the fake timers of Jest, Vitest or Sinon. Keys expire by the
 * time of the test.
 *
 * @param count how many, from 1 to 100
 * @returns the nodes, named `memory:1`, `memory:2`, …; those of the second call `memory-2:1`, …
 * @throws RangeError if the count is not such a number
 *
 * @example
 * ```ts
 * const nodes = memoryNodes(5);
 * const redlock = new Redlock(nodes);
 * const lock = await redlock.acquire("invoice:7", 5000);
 * for (const node of nodes.slice(2)) node.freeze();
 * await lock.extend(5000); // rejects: a majority does not reply
 * ```
 */
export function memoryNodes<const Count extends number>(count: Count): MemoryNodes<Count> {
  if (!Number.isInteger(count) || count < 1 || count > MOST_NODES) {
    throw new RangeError(
      `memoryNodes: the count is ${String(count)}, but must be a whole number from 1 to ${MOST_NODES}. Pass 3 or 5.`,
    );
  }
  groups += 1;
  const host = groups === 1 ? "memory" : `memory-${groups}`;
  const clock = new ServerClock();
  const nodes = Array.from({ length: count }, (_, index) => {
    // A connection in memory cannot die silently. The timeout says so to `health()`.
    const options = { host, port: index + 1, socketTimeout: 0 };
    return new MemoryNode(new MemoryServer(clock), options);
  });
  return nodes as MemoryNodes<Count>;
}
