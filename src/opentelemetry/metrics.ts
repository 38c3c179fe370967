import type { Attributes, Meter } from "@opentelemetry/api";
import type { AcquireTrace } from "../events.js";
import type { Lock } from "../lock.js";
import { acquireOutcome, extendOutcome, type ResourceOf, resourceAttribute } from "./outcome.js";
import { Subscriber } from "./subscribe.js";

/** The bounds of the histograms' buckets, in seconds. */
const ACQUIRE_BOUNDS_S = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
];
const HOLD_BOUNDS_S = [0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400];

/** A lock that is held, as far as this process knows. */
interface Holding {
  readonly sinceMs: number;
  readonly attributes: Attributes;
}

/** Reports the metrics until it is stopped. Returns what stops it. */
export function observeMetrics(meter: Meter, resourceOf: ResourceOf): () => void {
  const instruments = makeInstruments(meter);
  const channels = new Subscriber();
  const holdings = new Map<Lock, Holding>();
  const calls = new Map<AcquireTrace, Attributes>();
  const attributesOf = (message: { readonly resources: readonly string[] }): Attributes =>
    resourceAttribute(resourceOf, message);

  const held = (lock: Lock, attributes: Attributes): void => {
    if (!holdings.has(lock)) holdings.set(lock, { sinceMs: performance.now(), attributes });
  };
  const ended = (lock: Lock, outcome: string): void => {
    const holding = holdings.get(lock);
    if (holding === undefined) return;
    holdings.delete(lock);
    const seconds = (performance.now() - holding.sinceMs) / 1000;
    instruments.hold.record(seconds, { ...holding.attributes, "redlock.outcome": outcome });
  };

  channels.trace("redlock-quorum:acquire", "start", (message) => {
    calls.set(message, attributesOf(message));
  });
  channels.trace("redlock-quorum:acquire", "asyncEnd", (message) => {
    const attributes = calls.get(message);
    // It began before this was observed.
    if (attributes === undefined) return;
    calls.delete(message);
    const outcome = acquireOutcome(message);
    instruments.acquire.record(message.elapsedMs / 1000, {
      ...attributes,
      "redlock.outcome": outcome,
    });
    if (message.result) held(message.result, attributes);
  });
  channels.trace("redlock-quorum:extend", "asyncEnd", (message) => {
    const outcome = extendOutcome(message);
    if (outcome === undefined) return;
    const attributes = attributesOf(message);
    instruments.extensions.add(1, { ...attributes, "redlock.outcome": outcome });
    // An adopted lock is held from its first extension on.
    if (message.error === undefined && message.lock.valid) held(message.lock, attributes);
  });
  channels.trace("redlock-quorum:release", "end", ({ lock }) => {
    // A release of a closed Redlock releases nothing.
    if (!lock.valid) ended(lock, "released");
  });
  channels.on("redlock-quorum:lost", (message) => {
    const { lock, reason, isPassedOn } = message;
    ended(lock, isPassedOn ? "passed-on" : reason);
    if (isPassedOn) return;
    instruments.lost.add(1, { ...attributesOf(message), "redlock.reason": reason });
  });
  channels.on("redlock-quorum:vote", ({ node, kind }) => {
    instruments.votes.add(1, { "redlock.node": node, "redlock.vote": kind });
  });

  const stopCounting = countWhenRead(meter, instruments, holdings, calls);
  return () => {
    channels.stop();
    stopCounting();
  };
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

/**
 * Counts what is held and what waits when a reader asks, not up and down: a lock that nobody releases ends without a call,
 * and a sum of ups and downs would never forget it. Asking a lock whether it is valid is what notices its end.
 */
function countWhenRead(
  meter: Meter,
  instruments: Instruments,
  holdings: ReadonlyMap<Lock, Holding>,
  calls: ReadonlyMap<AcquireTrace, Attributes>,
): () => void {
  const { held, waiting } = instruments;
  const count: Parameters<Meter["addBatchObservableCallback"]>[0] = (result) => {
    const valid = [...holdings]
      .filter(([lock]) => lock.valid)
      .map(([, holding]) => holding.attributes);
    for (const [n, attributes] of tally(valid)) result.observe(held, n, attributes);
    const waits = [...calls].filter(([call]) => call.isWaiting).map(([, attributes]) => attributes);
    for (const [n, attributes] of tally(waits)) result.observe(waiting, n, attributes);
  };
  meter.addBatchObservableCallback(count, [held, waiting]);
  return () => {
    meter.removeBatchObservableCallback(count, [held, waiting]);
  };
}

/** Counts equal attributes. Without the attribute of the resource there is one count, which may be 0. */
function tally(all: readonly Attributes[]): Iterable<readonly [number, Attributes]> {
  const counts = new Map<unknown, readonly [number, Attributes]>([[undefined, [0, {}]]]);
  for (const attributes of all) {
    const key = attributes["redlock.resource"];
    const [n] = counts.get(key) ?? [0];
    counts.set(key, [n + 1, attributes]);
  }
  return counts.values();
}
