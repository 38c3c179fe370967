import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  type DataPoint,
  type Histogram,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { observeRedlock, type ObserveOptions } from "../../src/opentelemetry/index.js";
import { rejection } from "../support/nodes.js";
import { slowness, until } from "../support/servers.js";
import { useMemoryNodes } from "../support/use-memory-nodes.js";

const TTL_MS = 60_000;

/** Ends while a test waits, but not before it has looked: this process may be kept from running for a while. */
function shortTtlMs(): number {
  return Math.ceil(300 * slowness());
}

let stop: (() => void) | undefined;

afterEach(() => {
  stop?.();
  stop = undefined;
});

const { nodes, client } = useMemoryNodes();

/** The real SDK, whose reader collects when the test asks. */
class Meters {
  readonly #exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  readonly #reader = new PeriodicExportingMetricReader({
    exporter: this.#exporter,
    exportIntervalMillis: 2 ** 31 - 1,
  });
  readonly provider = new MeterProvider({ readers: [this.#reader] });

  /** Returns a metric's values by its attributes: its count for a histogram. */
  async read(name: string): Promise<Record<string, number>> {
    return Object.fromEntries(
      (await this.points(name)).map(({ attributes, value }) => [
        Object.values(attributes).join(" "),
        typeof value === "number" ? value : value.count,
      ]),
    );
  }

  async points(name: string): Promise<DataPoint<number | Histogram>[]> {
    this.#exporter.reset();
    await this.provider.forceFlush();
    const all = this.#exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics);
    const found = all
      .flatMap(({ metrics }) => metrics)
      .filter((one) => one.descriptor.name === name);
    return found.flatMap(({ dataPoints }) => dataPoints as DataPoint<number | Histogram>[]);
  }
}

function observeMeters(options: ObserveOptions = {}): Meters {
  const meters = new Meters();
  stop = observeRedlock({ meterProvider: meters.provider, tracerProvider: false, ...options });
  return meters;
}

describe("the metrics", () => {
  test("count acquisitions by their outcome, in seconds", async () => {
    const meters = observeMeters();
    const lock = await client().acquire("a", TTL_MS);
    await client().tryAcquire("a", TTL_MS);
    const timedOut = client().acquire("a", TTL_MS, { acquireTimeout: 200 });
    await rejection(timedOut);
    const aborting = new AbortController();
    const aborted = client().acquire("a", TTL_MS, { signal: aborting.signal, retryCount: -1 });
    aborting.abort(new Error("shutting down"));
    await rejection(aborted);
    // By the loss of another lock, too.
    const outer = await client().acquire("outer", 100);
    const inner = client().acquire("a", TTL_MS, { signal: outer.signal, retryCount: -1 });
    expect(await rejection(inner)).toMatchObject({ code: "ERR_REDLOCK_LOST" });
    expect(await meters.read("redlock.acquire.duration")).toEqual({
      acquired: 2,
      held: 2,
      aborted: 2,
    });
    const points = await meters.points("redlock.acquire.duration");
    const held = points.find(({ attributes }) => attributes["redlock.outcome"] === "held");
    const { sum = 0 } = held?.value as Histogram;
    expect(sum).toBeGreaterThanOrEqual(0.1);
    expect(sum).toBeLessThan(60);
    await lock.release();
  });

  test("count what is held, and how long it was, by how it ended", async () => {
    const meters = observeMeters();
    expect(await meters.read("redlock.held")).toEqual({ "": 0 });
    const redlock = client();
    const lock = await redlock.acquire("a", TTL_MS);
    const short = await redlock.acquire("b", shortTtlMs());
    await redlock.acquire("c", TTL_MS, { autoExtend: true });
    expect(await meters.read("redlock.held")).toEqual({ "": 3 });
    await lock.release();
    await lock.release();
    // Nobody looks at this one: reading the metric notices its end.
    await until(
      async () => (await meters.read("redlock.held"))[""] === 1,
      5000,
      () => `valid: ${String(short.valid)}`,
    );
    expect(await meters.read("redlock.hold.duration")).toEqual({ released: 1, expired: 1 });
    await redlock.quit();
    expect(await meters.read("redlock.held")).toEqual({ "": 0 });
    expect(await meters.read("redlock.hold.duration")).toEqual({
      released: 1,
      expired: 1,
      closed: 1,
    });
    expect(await meters.read("redlock.lost")).toEqual({ expired: 1, closed: 1 });
  });

  test("count an adopted lock where it is held, and no loss where it was passed on", async () => {
    const meters = observeMeters();
    const given = await client().acquire("a", shortTtlMs());
    const adopted = client().adopt(given.toJSON());
    await adopted.extend(TTL_MS);
    expect(await meters.read("redlock.held")).toEqual({ "": 2 });
    await until(
      async () => (await meters.read("redlock.held"))[""] === 1,
      5000,
      () => "both are held",
    );
    await adopted.release();
    expect(await meters.read("redlock.hold.duration")).toEqual({ "passed-on": 1, released: 1 });
    expect(await meters.read("redlock.lost")).toEqual({});
    expect(await meters.read("redlock.extensions")).toEqual({ extended: 1 });
  });

  test("count calls that wait, while they wait", async () => {
    const meters = observeMeters();
    const lock = await client().acquire("a", TTL_MS);
    expect(await meters.read("redlock.waiting")).toEqual({ "": 0 });
    const redlock = client();
    const calls = [1, 2].map(() => redlock.using("a", TTL_MS, () => undefined));
    await until(
      async () => (await meters.read("redlock.waiting"))[""] === 2,
      5000,
      () => "they do not wait",
    );
    await lock.release();
    await Promise.all(calls);
    expect(await meters.read("redlock.waiting")).toEqual({ "": 0 });
    expect(await meters.read("redlock.acquire.duration")).toEqual({ acquired: 3 });
  });

  test("count votes against by node and kind, and extensions by their outcome", async () => {
    const meters = observeMeters();
    const redlock = client({ nodeTimeout: 50, retryCount: 0 });
    const lock = await redlock.acquire("a", TTL_MS);
    nodes[0].kill();
    await lock.extend(TTL_MS);
    nodes[1].kill();
    nodes[2].kill();
    await rejection(lock.extend(TTL_MS));
    const votes = await meters.read("redlock.votes");
    const byPort = Object.entries(votes).map(([key, n]) => [key.replace(/.*:/, ""), n]);
    expect(Object.fromEntries(byPort)).toEqual({ "1 down": 2, "2 down": 1, "3 down": 1 });
    expect(await meters.read("redlock.extensions")).toEqual({ extended: 1, unavailable: 1 });
  });

  test("have the attribute of the resource only if it is asked for", async () => {
    const resource = ([name = ""]: readonly string[]): string => name.split(":")[0] ?? "";
    const meters = observeMeters({ resource });
    const redlock = client();
    const lock = await redlock.acquire("invoice:7", TTL_MS);
    const other = await redlock.acquire("mail:1", TTL_MS);
    expect(await meters.read("redlock.acquire.duration")).toEqual({
      "invoice acquired": 1,
      "mail acquired": 1,
    });
    expect(await meters.read("redlock.held")).toEqual({ "": 0, invoice: 1, mail: 1 });
    await lock.release();
    await other.release();
    // A reader keeps the last count of what is not counted any more.
    for (let times = 0; times < 2; times++) {
      expect(await meters.read("redlock.held")).toEqual({ "": 0, invoice: 0, mail: 0 });
    }
    expect(await meters.read("redlock.hold.duration")).toEqual({
      "invoice released": 1,
      "mail released": 1,
    });
  });

  test("count every lock of many, and every call that waits of many", async () => {
    const meters = observeMeters();
    // On a busy machine, waiting takes longer than the default allows.
    const redlock = client({ retryCount: -1, nodeTimeout: 10_000 });
    const LOCKS = 600;
    for (let index = 0; index < LOCKS; index++) {
      await (await redlock.acquire(`${index}`, TTL_MS)).release();
    }
    expect(await meters.read("redlock.acquire.duration")).toEqual({ acquired: LOCKS });
    expect(await meters.read("redlock.hold.duration")).toEqual({ released: LOCKS });
    const points = await meters.points("redlock.hold.duration");
    const { buckets, count } = points[0]?.value as Histogram;
    expect(buckets.counts.reduce((total, n) => total + n, 0)).toBe(count);
    const lock = await redlock.acquire("a", TTL_MS);
    const calls = Array.from({ length: 200 }, () => redlock.using("a", TTL_MS, () => undefined));
    await until(
      async () => (await meters.read("redlock.waiting"))[""] === calls.length,
      5000,
      () => "they do not wait",
    );
    await lock.release();
    await Promise.all(calls);
    expect(await meters.read("redlock.waiting")).toEqual({ "": 0 });
  });

  test("end when they are stopped, and have what happened until then", async () => {
    const meters = observeMeters();
    const redlock = client();
    const lock = await redlock.acquire("a", TTL_MS);
    await redlock.tryAcquire("a", TTL_MS);
    await lock.release();
    stop?.();
    await redlock.using("a", TTL_MS, () => undefined);
    expect(await meters.read("redlock.acquire.duration")).toEqual({ acquired: 1, held: 1 });
    expect(await meters.read("redlock.hold.duration")).toEqual({ released: 1 });
    const votes = Object.values(await meters.read("redlock.votes"));
    expect(votes.reduce((total, n) => total + n, 0)).toBeGreaterThanOrEqual(3);
  });
});

describe("the spans", () => {
  const manager = new AsyncLocalStorageContextManager();
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  const tracer = provider.getTracer("test");

  beforeAll(() => {
    context.setGlobalContextManager(manager.enable());
  });

  afterAll(() => {
    context.disable();
  });

  beforeEach(() => {
    exporter.reset();
    stop = observeRedlock({ meterProvider: false, tracerProvider: provider });
  });

  /** Runs a function in a span of the caller. */
  function inSpan<T>(name: string, fn: () => Promise<T>): Promise<T> {
    return tracer.startActiveSpan(name, async (span) => {
      try {
        return await fn();
      } finally {
        span.end();
      }
    });
  }

  function named(name: string): ReadableSpan {
    const found = exporter.getFinishedSpans().filter((span) => span.name === name);
    expect(found).toHaveLength(1);
    return found[0] as ReadableSpan;
  }

  function parentOf(name: string): string | undefined {
    const { parentSpanContext } = named(name);
    const spans = exporter.getFinishedSpans();
    return spans.find((span) => span.spanContext().spanId === parentSpanContext?.spanId)?.name;
  }

  test("are children of the span in which a call was made", async () => {
    const redlock = client({ owner: "api-7" });
    await inSpan("request", async () => {
      const lock = await redlock.acquire("a", TTL_MS);
      await lock.extend(TTL_MS);
      await lock.release();
    });
    for (const verb of ["acquire", "extend", "release"]) {
      expect(parentOf(`redlock ${verb}`)).toBe("request");
    }
    expect(named("redlock acquire").attributes).toEqual({
      "redlock.ttl": 60,
      "redlock.owner": "api-7",
      "redlock.outcome": "acquired",
      "redlock.attempts": 1,
    });
  });

  test("of a using are around its acquisition, its release and the calls of its routine", async () => {
    const redlock = client();
    await inSpan("request", () =>
      redlock.using("a", TTL_MS, async (_signal, lock) => {
        await lock.extend(TTL_MS);
        await inSpan("own", () => redlock.tryAcquire("b", TTL_MS));
      }),
    );
    expect(parentOf("redlock using")).toBe("request");
    expect(parentOf("redlock extend")).toBe("redlock using");
    expect(parentOf("redlock release")).toBe("redlock using");
    const acquired = exporter.getFinishedSpans().filter(({ name }) => name === "redlock acquire");
    const parents = acquired.map(({ parentSpanContext }) => parentSpanContext?.spanId);
    // The nearest span is the parent: for the second one, the caller's own.
    expect(parents).toEqual(
      ["redlock using", "own"].map((name) => named(name).spanContext().spanId),
    );
  });

  test("of a leader are one for each term, around its release", async () => {
    await inSpan("request", () => client().lead("a", TTL_MS, () => 7));
    expect(parentOf("redlock lead")).toBe("request");
    expect(parentOf("redlock acquire")).toBe("request");
    expect(parentOf("redlock release")).toBe("redlock lead");
    expect(named("redlock lead").attributes["redlock.outcome"]).toBe("ok");
  });

  test("of an extension by the library have the parent of its lock's acquisition", async () => {
    const redlock = client();
    // Soon extended, and not lost soon on a busy machine.
    const settings = { autoExtend: true, automaticExtensionThreshold: 4500 };
    // Its timer is that of both locks: that of the other one must not be the parent.
    const other = await inSpan("other", () => redlock.acquire("b", 5000, settings));
    const lock = await inSpan("request", () => redlock.acquire("a", 5000, settings));
    const extensions = (): ReadableSpan[] =>
      exporter.getFinishedSpans().filter(({ name }) => name === "redlock extend");
    await until(
      () => extensions().length >= 2,
      5000,
      () => "they were not extended",
    );
    await lock.release();
    await other.release();
    const parents = extensions().map(({ parentSpanContext }) => parentSpanContext?.spanId);
    expect(new Set(parents)).toEqual(
      new Set(["other", "request"].map((name) => named(name).spanContext().spanId)),
    );
  });

  test("of a failed call have its error", async () => {
    await client().acquire("a", TTL_MS);
    exporter.reset();
    const error = await rejection(client().acquire("a", TTL_MS, { acquireTimeout: 100 }));
    const span = named("redlock acquire");
    expect(span.status).toMatchObject({ code: 2, message: error.message });
    expect(span.attributes["redlock.outcome"]).toBe("held");
    expect(span.events.map(({ name }) => name)).toEqual(["exception"]);
  });

  test("of a using whose routine throws have its error, and say that it failed", async () => {
    await rejection(
      client().using("a", TTL_MS, () => {
        throw new Error("no such invoice");
      }),
    );
    expect(named("redlock using")).toMatchObject({
      status: { code: 2, message: "no such invoice" },
      attributes: { "redlock.outcome": "failed" },
    });
    expect(named("redlock release").attributes["redlock.outcome"]).toBe("ok");
  });

  test("end when they are stopped, and leave the active span of the caller as it is", async () => {
    const redlock = client();
    await redlock.using("a", TTL_MS, () => {
      stop?.();
      expect(trace.getActiveSpan()).toBeUndefined();
    });
    const names = exporter.getFinishedSpans().map(({ name }) => name);
    expect(names).toEqual(["redlock acquire", "redlock using"]);
  });
});
