// A process that takes and releases locks while something observes the calls, or nothing does.

import { context } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { MeterProvider } from "@opentelemetry/sdk-metrics";
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  InMemorySpanExporter,
} from "@opentelemetry/sdk-trace-base";
import type * as Observer from "../../src/opentelemetry/index.js";
import { installedLibraries, libraryNamed, OURS } from "../libraries.js";
import { urlOfEntry } from "../package-under-test.js";
import { serve } from "../workers.js";
import { usePairs, warmUp } from "../workloads.js";

export interface Task {
  readonly packageUrl: string;
  readonly urls: readonly string[];
  readonly users: readonly number[];
  readonly observes: "nothing" | "metrics" | "spans";
  readonly forMs: number;
}

/** CPU time of the process in µs for an acquire and release, for each number of users. */
export type Report = readonly number[];

const WARM_UP_MS = 500;

type Collect = () => Promise<unknown>;

/** Observes with the real SDK. Returns what reads the metrics, as a scrape does. */
async function observe({ packageUrl, observes }: Task): Promise<Collect | undefined> {
  if (observes === "nothing") return undefined;
  const url = urlOfEntry(packageUrl, "opentelemetry");
  const { observeRedlock } = (await import(url)) as typeof Observer;
  if (observes === "metrics") {
    const reader = new PrometheusExporter({ preventServerStart: true });
    const meterProvider = new MeterProvider({ readers: [reader] });
    observeRedlock({ meterProvider, tracerProvider: false });
    return () => reader.collect();
  }
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  // As a service does, but the exporter keeps nothing.
  const exporter = new InMemorySpanExporter();
  const send = exporter.export.bind(exporter);
  exporter.export = (spans, done) => {
    send(spans, done);
    exporter.reset();
  };
  const processor = new BatchSpanProcessor(exporter);
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [processor] });
  observeRedlock({ meterProvider: false, tracerProvider });
  return undefined;
}

await serve(async (given) => {
  const task = given as Task;
  const { packageUrl, urls, users, forMs } = task;
  const locker = await libraryNamed(installedLibraries(packageUrl), OURS).open(urls, "none");
  const collect = await observe(task);
  const measure = async (ms: number): Promise<Report> => {
    const costs: number[] = [];
    for (const count of users) {
      const plan = { users: count, forMs: ms, keyPrefix: `telemetry:${process.pid}` };
      costs.push((await usePairs(locker, plan, collect)).clientCpuUs);
    }
    return costs;
  };
  await warmUp(locker, false);
  await measure(WARM_UP_MS);
  return () => measure(forMs);
});
