import { errorMonitor, EventEmitter } from "node:events";
import type { RedlockEvents } from "./events.js";
import type { Node } from "./nodes/node.js";
import { inOwnTurn } from "./runtime/environment.js";

/** Emits each event in a microtask of its own, so that a listener that throws cannot disturb the count of votes. */
export class RedlockEmitter extends EventEmitter<RedlockEvents> {
  /** Emits `error`. */
  protected readonly report = (error: Error, node?: Node): void => {
    const about: [Error, string?] = node === undefined ? [error] : [error, node.name];
    inOwnTurn(() => this.emit("error", ...about));
  };

  /** Emits another event, whose payload is made only if there is a listener. */
  protected readonly announce = <Name extends Exclude<keyof RedlockEvents, "error">>(
    name: Name,
    payload: () => RedlockEvents[Name][0],
  ): void => {
    if (this.listenerCount(name) === 0) return;
    const event = payload();
    inOwnTurn(() => super.emit(name, ...([event] as never)));
  };

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
