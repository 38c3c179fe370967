import { asError } from "../errors.js";
import { extensionThresholdMs } from "../settings.js";
import type { Acquisition } from "./call.js";
import type { Handle } from "./handle.js";
import { traceExtend } from "./tracing.js";
import { attemptExtension, Extension, whyNotExtended } from "./extend.js";

/** Has a lock extended from now on, until it is released or lost. */
export function keep(call: Acquisition, handle: Handle): void {
  const { instance, settings, ttlMs } = call;
  const { lock } = handle;
  handle.keep({
    thresholdMs: extensionThresholdMs(ttlMs, settings),
    maxHoldMs: settings.maxHold,
    pauseMs: () => call.nextDelayMs(),
    extend: async (limitMs) => {
      const extension = new Extension(instance, lock, ttlMs, settings);
      try {
        await traceExtend(extension, true, async () => {
          const extended = await attemptExtension(extension, limitMs);
          if (extended === undefined && !extension.lease.released) throw whyNotExtended(extension);
          return extended;
        });
        return undefined;
      } catch (error) {
        return asError(error);
      }
    },
  });
}
