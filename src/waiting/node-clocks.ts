import type { Environment } from "../runtime/environment.js";
import type { Node } from "../nodes/node.js";

/** A sample older than this is ignored: the node's clock may have been set since. */
const LONGEST_TRUST_MS = 60_000;

interface Sample {
  readonly offsetMs: number;
  readonly atMs: number;
}

/**
 * Tracks how far the nodes' clocks are from this host's monotonic one, which nobody sets. The tickets of one queue are
 * drawn on many hosts, whose clocks may be seconds apart. The median of the nodes' clocks is one clock for all of them.
 */
export class NodeClocks {
  readonly #environment: Environment;
  readonly #samples = new Map<Node, Sample>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Records that the node's clock showed `nodeMs`, `agoMs` ago. */
  note(node: Node, nodeMs: number, agoMs: number): void {
    const atMs = this.#environment.monotonicMs();
    this.#samples.set(node, { offsetMs: nodeMs - (atMs - agoMs), atMs });
  }

  /** Returns the median offset in ms, to be added to this host's monotonic clock; undefined without recent samples. */
  offsetMs(): number | undefined {
    const nowMs = this.#environment.monotonicMs();
    const offsets = [...this.#samples.values()]
      .filter(({ atMs }) => nowMs - atMs < LONGEST_TRUST_MS)
      .map(({ offsetMs }) => offsetMs)
      .sort((a, b) => a - b);
    return offsets[offsets.length >> 1];
  }
}
