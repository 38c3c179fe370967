import { metrics, type MeterProvider, trace, type TracerProvider } from "@opentelemetry/api";
import { observeMetrics } from "./metrics.js";
import { observeSpans } from "./spans.js";

/** What to observe, and where to report it. */
export interface ObserveOptions {
  /** Makes the metrics: by default the global provider; `false` for no metrics. */
  readonly meterProvider?: MeterProvider | false;
  /** Makes the spans: by default the global provider; `false` for no spans. */
  readonly tracerProvider?: TracerProvider | false;
  /**
   * Returns the attribute `redlock.resource` of a call's metrics and spans, from the names of its resources. There is no
   * such attribute by default: each new value makes a new time series of every metric, so return a class of resources
   * where their names have ids. Must not throw.
   */
  readonly resource?: (resources: readonly string[]) => string;
}

/** The name of the meter and of the tracer. */
const SCOPE = "redlock-quorum";

/**
 * Reports all calls of this process as metrics and spans of OpenTelemetry, whichever Redlock they are of. Call it once,
 * after the providers are registered, and before the calls.
 *
 * @returns a function that stops it
 *
 * @example
 * ```ts
 * import { observeRedlock } from "redlock-quorum/opentelemetry";
 *
 * observeRedlock({ resource: ([name = ""]) => name.split(":")[0] ?? "" });
 * ```
 */
export function observeRedlock(options: ObserveOptions = {}): () => void {
  const { meterProvider = metrics, tracerProvider = trace, resource } = options;
  const ends: (() => void)[] = [];
  if (meterProvider !== false) ends.push(observeMetrics(meterProvider.getMeter(SCOPE), resource));
  if (tracerProvider !== false) ends.push(observeSpans(tracerProvider.getTracer(SCOPE), resource));
  return () => {
    for (const end of ends.splice(0)) end();
  };
}
