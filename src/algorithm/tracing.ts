import {
  acquireTraces,
  extendTraces,
  handOverChannel,
  leadTraces,
  lostChannel,
  nodeChannel,
  releaseTraces,
  type Traces,
  usingTraces,
  voteChannel,
  waitingChannel,
} from "../channels.js";
import { isReply } from "../clients/connection.js";
import { HeldBack, isHeld, NodeError } from "../errors.js";
import type {
  AcquireTrace,
  CallTrace,
  ExtendTrace,
  LeadTrace,
  RedlockEvents,
  VoteKind,
} from "../events.js";
import type { Lock } from "../lock.js";
import type { Node } from "../nodes/node.js";
import { ownerOf } from "../operations/lock-value.js";
import type { Acquisition, Call } from "./call.js";
import type { Extension } from "./extend.js";
import type { Release } from "./release.js";

// Where the calls and the events of a Redlock reach the channels of ../channels.ts. With nobody listening, each costs one
// look at `hasSubscribers`, and no message is made.

type Run<C extends Call, T> = (call: C) => Promise<T>;

/** Runs an acquisition, traced. */
export function traceAcquire<T extends Lock | null>(
  call: Acquisition,
  run: Run<Acquisition, T>,
): Promise<T> {
  return traced(acquireTraces, (own) => new TracedAcquisition(own), call, run);
}

/** Runs an extension, traced. @param isAutomatic whether the library extends by itself */
export function traceExtend<T extends Lock | undefined>(
  call: Extension,
  isAutomatic: boolean,
  run: Run<Extension, T>,
): Promise<T> {
  return traced(extendTraces, (own) => new TracedExtension(own, isAutomatic), call, run);
}

/** Runs a release, traced. */
export function traceRelease<T>(call: Release, run: Run<Release, T>): Promise<T> {
  return traced(releaseTraces, (own) => new TracedOnLock(own), call, run);
}

/** Runs a call of `using`, traced. */
export function traceUsing<T>(call: Acquisition, run: Run<Acquisition, T>): Promise<T> {
  return traced(usingTraces, (own) => new Traced(own), call, run);
}

/** Runs one term of a leader, traced. */
export function traceLead<T>(call: Acquisition, lock: Lock, run: Run<Acquisition, T>): Promise<T> {
  return traced(leadTraces, (own) => new TracedTerm(own, lock), call, run);
}

/** What the messages of the tracing channels learn at the end of their calls. */
interface Outcome {
  result?: unknown;
  error?: unknown;
}

/**
 * Does what `tracePromise` of Node does, without what nobody listens to. Metrics need one message of an acquisition and one
 * of a release; `tracePromise` would make five of each, and closures for them.
 */
function traced<C extends Call, Message extends CallTrace, T>(
  channel: Traces<Message>,
  message: (call: C) => Message,
  call: C,
  run: Run<C, T>,
): Promise<T> {
  const { start, end } = channel;
  if (!start.hasSubscribers && !end.hasSubscribers && !hearsOfEnds(channel)) return run(call);
  const own = message(call);
  const follow = (): Promise<T> => {
    const promise = run(call);
    end.publish(own);
    return hearsOfEnds(channel) ? settled(channel, own, promise) : promise;
  };
  return start.hasSubscribers ? start.runStores(own, follow) : follow();
}

function hearsOfEnds<Message extends object>(channel: Traces<Message>): boolean {
  const { asyncStart, asyncEnd, error } = channel;
  return asyncEnd.hasSubscribers || asyncStart.hasSubscribers || error.hasSubscribers;
}

async function settled<Message extends Outcome, T>(
  { asyncStart, asyncEnd, error: failure }: Traces<Message>,
  own: Message,
  promise: Promise<T>,
): Promise<T> {
  try {
    const result = await promise;
    own.result = result;
    asyncStart.publish(own);
    asyncEnd.publish(own);
    return result;
  } catch (error) {
    own.error = error;
    failure.publish(own);
    asyncStart.publish(own);
    asyncEnd.publish(own);
    throw error;
  }
}

class Traced implements CallTrace {
  readonly resources: readonly string[];
  readonly ttl: number;
  readonly owner: string;
  readonly #call: Call;

  constructor(call: Call) {
    this.resources = call.resources;
    this.ttl = call.ttlMs;
    this.owner = call.settings.owner;
    this.#call = call;
  }

  get attempts(): number {
    return this.#call.history.count;
  }

  get elapsedMs(): number {
    return this.#call.elapsedMs;
  }
}

class TracedAcquisition extends Traced implements AcquireTrace {
  readonly #call: Acquisition;

  constructor(call: Acquisition) {
    super(call);
    this.#call = call;
  }

  get isWaiting(): boolean {
    return this.#call.isWaiting;
  }

  get position(): number | undefined {
    const ahead = this.#call.isWaiting ? this.#call.position?.ahead : undefined;
    return ahead === undefined ? undefined : ahead + 1;
  }
}

class TracedTerm extends Traced implements LeadTrace {
  readonly lock: Lock;

  constructor(call: Acquisition, lock: Lock) {
    super(call);
    this.lock = lock;
  }
}

class TracedOnLock extends Traced {
  readonly lock: Lock;

  constructor(call: Extension | Release) {
    super(call);
    this.lock = call.lock;
  }
}

class TracedExtension extends TracedOnLock implements ExtendTrace {
  readonly isAutomatic: boolean;

  constructor(call: Extension, isAutomatic: boolean) {
    super(call);
    this.isAutomatic = isAutomatic;
  }
}

type Publish = {
  readonly [Name in keyof RedlockEvents]?: (payload: () => RedlockEvents[Name][0]) => void;
};

/** The events that are published on a channel as well. */
const PUBLISH: Publish = {
  lost: (payload) => {
    if (!lostChannel.hasSubscribers) return;
    const event = payload();
    const { lock, error } = event;
    const owner = ownerOf(lock.value) ?? "";
    const { reason, resources } = error;
    lostChannel.publish({ ...event, resources, ttl: lock.ttl, owner, reason });
  },
  "node:down": (payload) => {
    if (nodeChannel.hasSubscribers) nodeChannel.publish({ ...payload(), state: "down" });
  },
  "node:up": (payload) => {
    if (nodeChannel.hasSubscribers) nodeChannel.publish({ ...payload(), state: "up" });
  },
};

/** Publishes an event, if it has a channel. */
export function publishEvent<Name extends Exclude<keyof RedlockEvents, "error">>(
  name: Name,
  payload: () => RedlockEvents[Name][0],
): void {
  PUBLISH[name]?.(payload);
}

/** Publishes that a node voted against. */
export function publishVote(reason: Error, node: Node): void {
  if (voteChannel.hasSubscribers) {
    voteChannel.publish({ node: node.name, kind: kindOf(reason), reason });
  }
  if (reason instanceof HeldBack) publishHold(reason, node);
}

/** For each node that is held back: since when, as it was last published. */
const publishedHolds = new WeakMap<Node, number>();

/** Publishes once that the restart guard holds a node back. */
function publishHold(reason: HeldBack, node: Node): void {
  const { sinceMs } = reason;
  if (sinceMs === undefined || publishedHolds.get(node) === sinceMs) return;
  if (!nodeChannel.hasSubscribers) return;
  publishedHolds.set(node, sinceMs);
  nodeChannel.publish({ node: node.name, state: "held-back", reason });
}

function kindOf(reason: Error): VoteKind {
  if (isHeld(reason)) return "held";
  if (reason instanceof HeldBack) return "held-back";
  if (reason instanceof NodeError) {
    return reason.code === "ERR_REDLOCK_NODE_TIMEOUT" ? "timeout" : "down";
  }
  return isReply(reason) ? "refused" : "down";
}

/** Publishes that an acquisition begins to wait. */
export function publishWaiting(call: Acquisition): void {
  if (waitingChannel.hasSubscribers) waitingChannel.publish(new TracedAcquisition(call));
}

/** Publishes that a node told a waiter that it is next. */
export function publishHandOver({ resources, elapsedMs }: Acquisition, { name: node }: Node): void {
  if (!handOverChannel.hasSubscribers) return;
  handOverChannel.publish({ node, resources, waitedMs: elapsedMs });
}
