import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Redlock } from "../../../src/index.js";
import { memoryNodes } from "../../../src/testing/index.js";

const { AbortController: NodesController, setTimeout: nodesSetTimeout } = globalThis;
const nodesClearTimeout = globalThis.clearTimeout;

/** An AbortController of jsdom: its signals are no EventTarget of Node. */
function foreignController(): object {
  const controller = new NodesController();
  const signal = new Proxy(controller.signal, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
    getPrototypeOf: () => Object.prototype,
  });
  return {
    signal,
    abort: (reason: unknown) => {
      controller.abort(reason);
    },
  };
}

describe("globals as in the environment jsdom of Jest", () => {
  beforeEach(() => {
    const timers = new Map<number, NodeJS.Timeout>();
    const setNumbered = (callback: () => void, delayMs: number): number => {
      timers.set(timers.size + 1, nodesSetTimeout(callback, delayMs));
      return timers.size;
    };
    const clearNumbered = (id: number): void => {
      nodesClearTimeout(timers.get(id));
    };
    Object.assign(globalThis, {
      AbortController: foreignController,
      setTimeout: setNumbered,
      clearTimeout: clearNumbered,
    });
  });

  afterEach(() => {
    Object.assign(globalThis, {
      AbortController: NodesController,
      setTimeout: nodesSetTimeout,
      clearTimeout: nodesClearTimeout,
    });
  });

  it("let calls lock, wait with a signal, extend and close", async () => {
    const redlock = new Redlock(memoryNodes(3));
    const { signal } = new AbortController();
    const lock = await redlock.acquire("a", 5000, { autoExtend: true, signal });
    const waiting = redlock.acquire("a", 5000, { signal });
    await lock.extend(5000);
    await lock.release();
    const next = await waiting;
    expect(next.valid).toBe(true);
    await next.release();
    await redlock.quit();
  });
});
