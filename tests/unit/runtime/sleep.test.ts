import { getEventListeners } from "node:events";
import { describe, expect, it } from "@jest/globals";
import { sleep } from "../../../src/runtime/environment.js";
import { played, rejection } from "../../virtual-world/stage.js";

const SLEEPERS = 1000;

describe("many who sleep until one signal aborts", () => {
  it(
    "share one listener of it, which goes with the last of them",
    played(async (stage) => {
      const { environment } = stage.machine().internals;
      const { signal } = new AbortController();
      const wakes: (() => void)[] = [];
      const all = Array.from({ length: SLEEPERS }, () =>
        sleep(environment, 1000, [signal], (wake) => wakes.push(wake)),
      );
      expect(getEventListeners(signal, "abort")).toHaveLength(1);
      for (const wake of wakes.slice(1)) wake();
      await Promise.all(all.slice(1));
      expect(getEventListeners(signal, "abort")).toHaveLength(1);
      wakes[0]?.();
      await all[0];
      expect(getEventListeners(signal, "abort")).toHaveLength(0);
    }),
  );

  it(
    "all wake up when it does",
    played(async (stage) => {
      const { environment } = stage.machine().internals;
      const over = new AbortController();
      const { signal } = new AbortController();
      const all = Array.from({ length: SLEEPERS }, () =>
        rejection(sleep(environment, 1000, [signal, over.signal])),
      );
      over.abort(new Error("enough"));
      const reasons = await Promise.all(all);
      expect(new Set(reasons.map(({ message }) => message))).toEqual(new Set(["enough"]));
      expect(getEventListeners(signal, "abort")).toHaveLength(0);
      expect(getEventListeners(over.signal, "abort")).toHaveLength(0);
    }),
  );
});
