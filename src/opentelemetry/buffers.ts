import type { Attributes, Counter, Histogram } from "@opentelemetry/api";

// The SDK makes a text of the attributes of each value that it records, which is most of what metrics cost. It asks its
// observers before it reads the instruments, so that what is kept here until then is never missing.

/** What waits here is not in the histogram yet, if somebody looks at it without a reader: so it is not much. */
const CAPACITY = 256;

/** Keeps values for a histogram, and records them one right after the other, which takes less time. */
export class HistogramBuffer {
  readonly #histogram: Histogram;
  readonly #values = new Float64Array(CAPACITY);
  readonly #attributes: Attributes[] = [];
  #count = 0;

  constructor(histogram: Histogram) {
    this.#histogram = histogram;
  }

  record(value: number, attributes: Attributes): void {
    this.#values[this.#count] = value;
    this.#attributes[this.#count] = attributes;
    this.#count += 1;
    if (this.#count === CAPACITY) this.report();
  }

  /** Records what was kept. */
  report(): void {
    for (let index = 0; index < this.#count; index++) {
      this.#histogram.record(this.#values[index] ?? NaN, this.#attributes[index]);
    }
    this.#count = 0;
  }
}

interface VoteSum {
  readonly attributes: Attributes;
  unreported: number;
}

/** Counts votes, and adds their sums to a counter: under contention, each attempt has a vote against of every node. */
export class VoteBuffer {
  readonly #counter: Counter;
  readonly #sums = new Map<string, Map<string, VoteSum>>();

  constructor(counter: Counter) {
    this.#counter = counter;
  }

  count(node: string, kind: string): void {
    const ofNode = this.#sums.get(node) ?? new Map<string, VoteSum>();
    if (ofNode.size === 0) this.#sums.set(node, ofNode);
    const sum = ofNode.get(kind);
    if (sum !== undefined) sum.unreported += 1;
    else {
      const attributes = { "redlock.node": node, "redlock.vote": kind };
      ofNode.set(kind, { attributes, unreported: 1 });
    }
  }

  /** Adds what was counted since the last report. */
  report(): void {
    for (const ofNode of this.#sums.values()) {
      for (const sum of ofNode.values()) {
        if (sum.unreported > 0) this.#counter.add(sum.unreported, sum.attributes);
        sum.unreported = 0;
      }
    }
  }
}
