import type { Environment } from "../runtime/environment.js";
import type { Node } from "../nodes/node.js";

/** A clock may have been set since. */
const LONGEST_TRUST_MS = 60_000;

interface Sample {
  readonly offsetMs: number;
  readonly atMs: number;
}

/**
 * How far the nodes' clocks are from ours. The tickets of one line are drawn on many hosts, whose clocks
 * may be seconds apart; the nodes' median is one clock for all of them.
 */
export class NodeClocks {
  readonly #environment: Environment;
  readonly #samples = new Map<Node, Sample>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** What the node's clock read, so long ago. */
  note(node: Node, nodeMs: number, agoMs: number): void {
    const { wallMs, monotonicMs } = this.#environment.now();
    this.#samples.set(node, { offsetMs: nodeMs - (wallMs - agoMs), atMs: monotonicMs });
  }

  /** The median, in ms to be added to our wall clock; undefined where none is known of late. */
  offsetMs(): number | undefined {
    const nowMs = this.#environment.monotonicMs();
    const offsets = [...this.#samples.values()]
      .filter(({ atMs }) => nowMs - atMs < LONGEST_TRUST_MS)
      .map(({ offsetMs }) => offsetMs)
      .sort((a, b) => a - b);
    return offsets[offsets.length >> 1];
  }
}
