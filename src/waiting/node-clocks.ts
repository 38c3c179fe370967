import type { Environment, Instant } from "../runtime/environment.js";
import type { Node } from "../nodes/node.js";

/** A sample older than this is ignored: the node's clock may have been set since. */
const LONGEST_TRUST_MS = 60_000;
/** So is a sample since which this host's clocks have moved apart by more: it was suspended, or its wall clock was set. */
const MOST_APART_MS = 1000;

interface Sample {
  readonly offsetMs: number;
  readonly at: Instant;
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
    const at = this.#environment.now();
    this.#samples.set(node, { offsetMs: nodeMs - (at.monotonicMs - agoMs), at });
  }

  /** Returns the median offset in ms, to be added to this host's monotonic clock; undefined without recent samples. */
  offsetMs(): number | undefined {
    const now = this.#environment.now();
    const offsets = [...this.#samples.values()]
      .filter(({ at }) => {
        const agoMs = now.monotonicMs - at.monotonicMs;
        return agoMs < LONGEST_TRUST_MS && Math.abs(now.wallMs - at.wallMs - agoMs) < MOST_APART_MS;
      })
      .map(({ offsetMs }) => offsetMs)
      .sort((a, b) => a - b);
    return offsets[offsets.length >> 1];
  }
}
