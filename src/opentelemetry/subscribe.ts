import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { RedlockMessages, RedlockTraces } from "../events.js";

type Event = "start" | "end" | "asyncStart" | "asyncEnd" | "error";

/** Subscribes to channels by their names, so that this entry never loads the library itself. */
export class Subscriber {
  readonly #ends: (() => void)[] = [];

  /** Listens to one event of a tracing channel. */
  trace<Name extends keyof RedlockTraces>(
    name: Name,
    event: Event,
    listener: (message: RedlockTraces[Name]) => void,
  ): void {
    this.#subscribe(`tracing:${name}:${event}`, listener);
  }

  /** Listens to a plain channel. */
  on<Name extends keyof RedlockMessages>(
    name: Name,
    listener: (message: RedlockMessages[Name]) => void,
  ): void {
    this.#subscribe(name, listener);
  }

  #subscribe(name: string, listener: (message: never) => void): void {
    const onMessage = listener as (message: unknown) => void;
    subscribe(name, onMessage);
    this.#ends.push(() => unsubscribe(name, onMessage));
  }

  /** Ends all subscriptions. */
  stop(): void {
    for (const end of this.#ends.splice(0)) end();
  }
}
