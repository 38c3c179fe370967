import { errorMonitor, EventEmitter } from "node:events";
import type { Announce } from "./algorithm/instance.js";
import type { RedlockEvents } from "./events.js";
import type { Node } from "./nodes/node.js";
import { inOwnTurn } from "./runtime/environment.js";

/** An emitter of the events of a Redlock, on which an `error` without a listener is ignored. */
export class RedlockEmitter extends EventEmitter<RedlockEvents> {
  /** Emits as any emitter does, but an `error` without a listener is ignored. By default it would end the process. */
  override emit<Name>(
    name: keyof RedlockEvents | Name,
    ...args: Name extends keyof RedlockEvents ? RedlockEvents[Name] : never
  ): boolean {
    if (name !== "error" || this.listenerCount("error") > 0) return super.emit(name, ...args);
    super.emit(errorMonitor, ...(args as never));
    return true;
  }
}

// Functions, not methods: those would be in the published types, and the node's class with them. Each event is emitted in
// a microtask of its own, so that a listener that throws cannot disturb the count of votes.

/** Returns a function that emits `error`. */
export function reporter(emitter: RedlockEmitter): (error: Error, node?: Node) => void {
  return (error, node) => {
    const about: [Error, string?] = node === undefined ? [error] : [error, node.name];
    inOwnTurn(() => emitter.emit("error", ...about));
  };
}

/** Returns a function that emits any other event. */
export function announcer(emitter: RedlockEmitter): Announce {
  return (name, payload) => {
    if (emitter.listenerCount(name) === 0) return;
    const event = payload();
    inOwnTurn(() => emitter.emit(name, ...([event] as never)));
  };
}
