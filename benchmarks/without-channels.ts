// Takes the place of src/algorithm/tracing.ts in a build without diagnostics channels.

import type * as tracing from "../src/algorithm/tracing.js";

export const traceAcquire: typeof tracing.traceAcquire = (call, run) => run(call);
export const traceExtend: typeof tracing.traceExtend = (call, _, run) => run(call);
export const traceRelease: typeof tracing.traceRelease = (call, run) => run(call);
export const traceUsing: typeof tracing.traceUsing = (call, run) => run(call);
export const traceLead: typeof tracing.traceLead = (call, _, run) => run(call);
export const publishEvent: typeof tracing.publishEvent = () => undefined;
export const publishVote: typeof tracing.publishVote = () => undefined;
export const publishHandOver: typeof tracing.publishHandOver = () => undefined;
export const publishWaiting: typeof tracing.publishWaiting = () => undefined;
