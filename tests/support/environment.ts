import { type Environment, systemEnvironment } from "../../src/runtime/environment.js";
import { type Internals, internalsKey } from "../../src/internals.js";
import { checkEntry } from "../../src/nodes/entries.js";

/** The real clocks, moved by hand: what a step of the wall clock or a suspended machine looks like. */
export interface MovableClocks {
  wallStepMs: number;
  monotonicStepMs: number;
  readonly settings: { readonly [internalsKey]: Internals };
}

export function movableClocks(): MovableClocks {
  const clocks = { wallStepMs: 0, monotonicStepMs: 0 };
  const environment: Environment = {
    ...systemEnvironment,
    now: () => {
      const { monotonicMs, wallMs } = systemEnvironment.now();
      return {
        monotonicMs: monotonicMs + clocks.monotonicStepMs,
        wallMs: wallMs + clocks.wallStepMs,
      };
    },
  };
  return Object.assign(clocks, {
    settings: { [internalsKey]: { environment, checkNode: checkEntry } },
  });
}
