import type { Attributes, Meter } from "@opentelemetry/api";
import type { WaitingMessage } from "../events.js";
import type { Lock } from "../lock.js";
import { HistogramBuffer, VoteBuffer } from "./buffers.js";
import { acquireOutcome, extendOutcome, type ResourceOf, resourceAttribute } from "./outcome.js";
import { Subscriber } from "./subscribe.js";

/** The bounds of the histograms' buckets, in seconds. */
const ACQUIRE_BOUNDS_S = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];
const HOLD_BOUNDS_S = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400];

/** Since when a lock is held, and the attributes of its resource. */
interface Holding {
  readonly sinceMs: number;
  readonly resource: Attributes;
}

/** The attributes of a call where no attribute of the resource is asked for: one object for all calls. */
const NO_RESOURCE: Attributes = {};

/** Reports the metrics until it is stopped. Returns what stops it. */
export function observeMetrics(meter: Meter, resourceOf: ResourceOf): () => void {
  const instruments = makeInstruments(meter);
  const channels = new Subscriber();
  const acquired = new HistogramBuffer(instruments.acquire);
  const hold = new HistogramBuffer(instruments.hold);
  const holdings = new Holdings(hold);
  const votes = new VoteBuffer(instruments.votes);
  const waiters = new Waiters();
  const resource = (message: { readonly resources: readonly string[] }): Attributes =>
    resourceOf === undefined ? NO_RESOURCE : resourceAttribute(resourceOf, message);

  channels.trace("redlock-quorum:acquire", "asyncEnd", (message) => {
    const of = resource(message);
    acquired.record(message.elapsedMs / 1000, withOutcome(of, acquireOutcome(message)));
    if (message.result) holdings.began(message.result, of);
  });
  channels.on("redlock-quorum:waiting", (message) => {
    waiters.add(message);
  });
  channels.trace("redlock-quorum:extend", "asyncEnd", (message) => {
    const outcome = extendOutcome(message);
    if (outcome === undefined) return;
    const of = resource(message);
    instruments.extensions.add(1, withOutcome(of, outcome));
    // An adopted lock is held from its first extension on.
    if (message.error === undefined && message.lock.valid && !holdings.has(message.lock))
      holdings.began(message.lock, of);
  });
  channels.trace("redlock-quorum:release", "end", ({ lock }) => {
    // A release of a closed Redlock releases nothing.
    if (!lock.valid) holdings.ended(lock, "released");
  });
  channels.on("redlock-quorum:lost", (message) => {
    const { lock, reason, isPassedOn } = message;
    holdings.ended(lock, isPassedOn ? "passed-on" : reason);
    if (isPassedOn) return;
    instruments.lost.add(1, { ...resource(message), "redlock.reason": reason });
  });
  channels.on("redlock-quorum:vote", ({ node, kind }) => {
    votes.count(node, kind);
  });

  const report = (): void => {
    for (const buffer of [acquired, hold, votes]) buffer.report();
  };
  const stopCounting = countWhenRead(meter, instruments, {
    // Asking a lock whether it is valid is what notices its end, so that the buffers come after it.
    held: () => holdings.valid(),
    waiting: () => waiters.now().map(resource),
    report,
  });
  return () => {
    channels.stop();
    stopCounting();
    report();
  };
}

/** The locks that this process holds, as far as it knows. */
class Holdings {
  readonly #durations: HistogramBuffer;
  readonly #held = new Map<Lock, Holding>();

  constructor(durations: HistogramBuffer) {
    this.#durations = durations;
  }

  has(lock: Lock): boolean {
    return this.#held.has(lock);
  }

  began(lock: Lock, resource: Attributes): void {
    this.#held.set(lock, { sinceMs: performance.now(), resource });
  }

  ended(lock: Lock, outcome: string): void {
    const holding = this.#held.get(lock);
    if (holding === undefined) return;
    this.#held.delete(lock);
    const seconds = (performance.now() - holding.sinceMs) / 1000;
    this.#durations.record(seconds, withOutcome(holding.resource, outcome));
  }

  /** Returns the attributes of each lock that is still valid. */
  valid(): readonly Attributes[] {
    return [...this.#held].flatMap(([lock, { resource }]) => (lock.valid ? [resource] : []));
  }
}

const outcomes = new Map<string, Attributes>();

/** The attributes of a call, with its outcome. */
function withOutcome(resource: Attributes, outcome: string): Attributes {
  if (resource !== NO_RESOURCE) return { ...resource, "redlock.outcome": outcome };
  let attributes = outcomes.get(outcome);
  if (attributes === undefined) {
    attributes = { "redlock.outcome": outcome };
    outcomes.set(outcome, attributes);
  }
  return attributes;
}

type Instruments = ReturnType<typeof makeInstruments>;

function makeInstruments(meter: Meter) {
  return {
    acquire: meter.createHistogram("redlock.acquire.duration", {
      unit: "s",
      description: "Time from the call until it got the lock or gave up, by outcome",
      advice: { explicitBucketBoundaries: ACQUIRE_BOUNDS_S },
    }),
    hold: meter.createHistogram("redlock.hold.duration", {
      unit: "s",
      description: "Time for which locks were held, by how they ended",
      advice: { explicitBucketBoundaries: HOLD_BOUNDS_S },
    }),
    lost: meter.createCounter("redlock.lost", {
      unit: "{lock}",
      description: "Locks that were lost before they were released",
    }),
    votes: meter.createCounter("redlock.votes", {
      unit: "{vote}",
      description: "Votes against, by node and kind",
    }),
    extensions: meter.createCounter("redlock.extensions", {
      unit: "{extension}",
      description: "Extensions, by outcome",
    }),
    held: meter.createObservableUpDownCounter("redlock.held", {
      unit: "{lock}",
      description: "Locks that this process holds",
    }),
    waiting: meter.createObservableUpDownCounter("redlock.waiting", {
      unit: "{call}",
      description: "Calls of this process that wait for a lock",
    }),
  };
}

/** What happens when a reader asks. */
interface Reading {
  /** Returns the attributes of each lock that is held. */
  readonly held: () => readonly Attributes[];
  /** Returns the attributes of each call that waits. */
  readonly waiting: () => readonly Attributes[];
  /** Records what the buffers keep. */
  readonly report: () => void;
}

/**
 * Counts what is held and what waits when a reader asks, not up and down: a lock that nobody releases ends without a call,
 * and a sum of ups and downs would never forget it.
 */
function countWhenRead(meter: Meter, instruments: Instruments, reading: Reading): () => void {
  const { held, waiting } = instruments;
  const heldBefore: Seen = new Map();
  const waitingBefore: Seen = new Map();
  const count: Parameters<Meter["addBatchObservableCallback"]>[0] = (result) => {
    for (const [n, attributes] of tally(reading.held(), heldBefore)) {
      result.observe(held, n, attributes);
    }
    for (const [n, attributes] of tally(reading.waiting(), waitingBefore)) {
      result.observe(waiting, n, attributes);
    }
    reading.report();
  };
  meter.addBatchObservableCallback(count, [held, waiting]);
  return () => {
    meter.removeBatchObservableCallback(count, [held, waiting]);
  };
}

const FEWEST_WAITERS_TO_SORT_OUT = 64;

/** The calls that wait. Whether one still does, it says itself: so the calls that need not wait cost nothing. */
class Waiters {
  #calls: WaitingMessage[] = [];
  #sortOutAt = FEWEST_WAITERS_TO_SORT_OUT;

  add(call: WaitingMessage): void {
    this.#calls.push(call);
    if (this.#calls.length >= this.#sortOutAt) this.now();
  }

  /** Returns those that wait now, and forgets the others. */
  now(): readonly WaitingMessage[] {
    this.#calls = this.#calls.filter(({ isWaiting }) => isWaiting);
    this.#sortOutAt = Math.max(FEWEST_WAITERS_TO_SORT_OUT, 2 * this.#calls.length);
    return this.#calls;
  }
}

/** All attributes that were counted so far, by their resource. */
type Seen = Map<unknown, Attributes>;

/**
 * Counts equal attributes. Those that were there before and are no more count 0: readers keep the last count of attributes
 * that are not observed. Without the attribute of the resource there is one count.
 */
function tally(all: readonly Attributes[], seen: Seen): (readonly [number, Attributes])[] {
  const counts = new Map<unknown, number>();
  for (const attributes of [{}, ...all]) seen.set(attributes["redlock.resource"], attributes);
  for (const attributes of all) {
    const key = attributes["redlock.resource"];
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return Array.from(seen, ([key, attributes]) => [counts.get(key) ?? 0, attributes] as const);
}
