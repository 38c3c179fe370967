import { AsyncLocalStorage } from "node:async_hooks";
import { tracingChannel } from "node:diagnostics_channel";
import { inspect, types } from "node:util";
import {
  type Context,
  context,
  type Span,
  SpanStatusCode,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import type { CallTrace, RedlockTraces } from "../events.js";
import type { Lock } from "../lock.js";
import {
  acquireOutcome,
  extendOutcome,
  outcomeOf,
  type ResourceOf,
  resourceAttribute,
} from "./outcome.js";
import { Subscriber } from "./subscribe.js";

/** The span of a running `using`, or of a leader's term: the parent of the calls inside it that have no nearer one. */
interface Scope {
  /** The context that was active when it began. */
  readonly outer: Context;
  readonly inner: Context;
}

/** Makes the spans until it is stopped. Returns what stops it. */
export function observeSpans(tracer: Tracer, resourceOf: ResourceOf): () => void {
  const spans = new SpanStore(tracer, resourceOf);
  const channels = new Subscriber();
  /** The context in which a lock was acquired. A timer extends it in the context of some other lock. */
  const origins = new WeakMap<Lock, Context>();

  channels.trace("redlock-quorum:acquire", "start", (message) => {
    spans.start("redlock acquire", message);
  });
  channels.trace("redlock-quorum:acquire", "asyncEnd", (message) => {
    const parent = spans.end(message, acquireOutcome(message));
    if (message.result && parent !== undefined) origins.set(message.result, parent);
  });
  channels.trace("redlock-quorum:extend", "start", (message) => {
    const origin = message.isAutomatic ? origins.get(message.lock) : undefined;
    spans.start("redlock extend", message, origin);
  });
  channels.trace("redlock-quorum:extend", "asyncEnd", (message) => {
    spans.end(message, extendOutcome(message) ?? "released");
  });
  channels.trace("redlock-quorum:release", "start", (message) => {
    spans.start("redlock release", message);
  });
  channels.trace("redlock-quorum:release", "asyncEnd", (message) => {
    spans.end(message, outcomeOf(message));
  });
  const unbinds = (["using", "lead"] as const).map((verb) => {
    const name = `redlock-quorum:${verb}` as const;
    channels.trace(name, "asyncEnd", (message) => {
      spans.end(message, outcomeOf(message));
    });
    const { start } = tracingChannel<Scope, RedlockTraces[typeof name]>(name);
    start.bindStore(spans.scopes, (message) => spans.startScope(`redlock ${verb}`, message));
    return () => start.unbindStore(spans.scopes);
  });

  return () => {
    channels.stop();
    for (const unbind of unbinds) unbind();
    spans.endAll();
  };
}

/** The spans of the calls that are under way. */
class SpanStore {
  readonly scopes = new AsyncLocalStorage<Scope>();
  readonly #tracer: Tracer;
  readonly #resourceOf: ResourceOf;
  readonly #spans = new Map<CallTrace, { readonly span: Span; readonly parent: Context }>();

  constructor(tracer: Tracer, resourceOf: ResourceOf) {
    this.#tracer = tracer;
    this.#resourceOf = resourceOf;
  }

  start(name: string, message: CallTrace, parent: Context = this.#parent()): Span {
    const attributes = {
      "redlock.ttl": message.ttl / 1000,
      "redlock.owner": message.owner,
      ...resourceAttribute(this.#resourceOf, message),
    };
    const span = this.#tracer.startSpan(name, { attributes }, parent);
    this.#spans.set(message, { span, parent });
    return span;
  }

  /** Starts a span that is the parent of the calls inside it. */
  startScope(name: string, message: CallTrace): Scope {
    const parent = this.#parent();
    const span = this.start(name, message, parent);
    return { outer: context.active(), inner: trace.setSpan(parent, span) };
  }

  /** Ends a call's span. Returns the context that it began in. */
  end(message: CallTrace, outcome: string): Context | undefined {
    const { span, parent } = this.#spans.get(message) ?? {};
    this.#spans.delete(message);
    if (span === undefined) return undefined;
    const { error, attempts } = message;
    span.setAttributes({ "redlock.outcome": outcome, "redlock.attempts": attempts });
    if (error !== undefined) {
      const exception = types.isNativeError(error) ? error : { message: inspect(error) };
      span.recordException(exception);
      span.setStatus({ code: SpanStatusCode.ERROR, message: exception.message });
    }
    span.end();
    return parent;
  }

  /** Ends what is still under way. */
  endAll(): void {
    for (const { span } of this.#spans.values()) span.end();
    this.#spans.clear();
  }

  /** Returns the active context; inside a `using` or a term that has no nearer span, that of the `using` or the term. */
  #parent(): Context {
    const active = context.active();
    const scope = this.scopes.getStore();
    return scope?.outer === active ? scope.inner : active;
  }
}
