import {
  type Channel,
  channel,
  tracingChannel,
  type TracingChannel,
} from "node:diagnostics_channel";
import type { RedlockMessages, RedlockTraces } from "./events.js";

// What the library tells on the channels of node:diagnostics_channel. It only describes: whoever subscribes computes.
// Messages are published synchronously, before the caller learns of what they say. A subscriber that throws cannot
// disturb a call: Node reports its error as an uncaught exception, in a turn of its own.

/** The channels of a tracing channel. */
export type Traces<Message extends object> = Pick<
  TracingChannel<unknown, Message>,
  "start" | "end" | "asyncStart" | "asyncEnd" | "error"
>;

function traces<Name extends keyof RedlockTraces>(name: Name): Traces<RedlockTraces[Name]> {
  return tracingChannel(name);
}

function messages<Name extends keyof RedlockMessages>(
  name: Name,
): Channel<unknown, RedlockMessages[Name]> {
  return channel(name) as Channel<unknown, RedlockMessages[Name]>;
}

export const acquireTraces = traces("redlock-quorum:acquire");
export const extendTraces = traces("redlock-quorum:extend");
export const releaseTraces = traces("redlock-quorum:release");
export const usingTraces = traces("redlock-quorum:using");
export const leadTraces = traces("redlock-quorum:lead");

export const lostChannel = messages("redlock-quorum:lost");
export const voteChannel = messages("redlock-quorum:vote");
export const waitingChannel = messages("redlock-quorum:waiting");
export const handOverChannel = messages("redlock-quorum:hand-over");
export const nodeChannel = messages("redlock-quorum:node");
