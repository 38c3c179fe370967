import { afterEach, beforeEach } from "@jest/globals";
import { Redlock, type RedlockSettings } from "../../src/index.js";
import { type MemoryNodes, memoryNodes } from "../../src/testing/index.js";

interface Used {
  readonly nodes: MemoryNodes<5>;
  /** Makes a Redlock on the nodes, as another process would. It is closed after the test. */
  readonly client: (settings?: RedlockSettings) => Redlock;
  /** The Redlocks to close after the test. */
  readonly opened: Redlock[];
}

/**
 * Makes five nodes in memory for each test of the file. Read the array in tests and hooks only. Jest runs hooks in the
 * order of their definition: what must end before the Redlocks close has its `afterEach` above the call of this.
 */
export function useMemoryNodes(): Used {
  const nodes = [] as unknown as MemoryNodes<5>;
  const opened: Redlock[] = [];
  beforeEach(() => {
    nodes.splice(0, nodes.length, ...memoryNodes(5));
  });
  afterEach(async () => {
    for (const node of nodes) await node.thaw();
    await Promise.all(opened.splice(0).map((one) => one.quit()));
  });
  const client = (settings?: RedlockSettings): Redlock => {
    const made = new Redlock(
      nodes.map((node) => node.duplicate()),
      settings,
    );
    opened.push(made);
    return made;
  };
  return { nodes, client, opened };
}
