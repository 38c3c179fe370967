import type { Attributes } from "@opentelemetry/api";
import type { AcquireTrace, CallTrace, ExtendTrace } from "../events.js";

export type ResourceOf = ((resources: readonly string[]) => string) | undefined;

/** Returns the attribute of the resources, if it was asked for. */
export function resourceAttribute(
  resourceOf: ResourceOf,
  { resources }: { readonly resources: readonly string[] },
): Attributes {
  return resourceOf === undefined ? {} : { "redlock.resource": resourceOf(resources) };
}

/** Returns the `reason` of the library's errors; of any other error, the word for it. */
function failure(error: unknown, other: string): string {
  if (typeof error !== "object" || error === null) return other;
  const { code, reason } = error as { readonly code?: unknown; readonly reason?: unknown };
  const isOurs = typeof code === "string" && code.startsWith("ERR_REDLOCK");
  return isOurs && typeof reason === "string" ? reason : other;
}

/** `acquired`, `held`, `unavailable`, `closed`, or `aborted` by the caller's signal. */
export function acquireOutcome({ error, result }: AcquireTrace): string {
  if (error !== undefined) {
    const outcome = failure(error, "aborted");
    // The loss of another lock, whose signal was that of this call.
    return outcome === "expired" ? "aborted" : outcome;
  }
  return result === null ? "held" : "acquired";
}

/** `extended`, `expired`, `unavailable`, `closed`; undefined if the lock was released meanwhile. */
export function extendOutcome({ error, result }: ExtendTrace): string | undefined {
  if (error !== undefined) return failure(error, "failed");
  return result === undefined ? undefined : "extended";
}

/** `ok`, or why a release or a `using` failed: `expired` if its lock was lost, `failed` if its routine threw. */
export function outcomeOf({ error }: CallTrace): string {
  return error === undefined ? "ok" : failure(error, "failed");
}
