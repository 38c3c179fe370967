import { type Environment, systemEnvironment } from "../../src/runtime/environment.js";
import { type WithInternals, withInternals } from "../../src/internals.js";
import { checkEntry } from "../../src/nodes/entries.js";
import type { RedlockSettings } from "../../src/settings.js";

/** The real clocks, moved by hand: what a step of the wall clock or a suspended machine looks like. */
export interface MovableClocks {
  wallStepMs: number;
  monotonicStepMs: number;
  readonly settings: RedlockSettings & Required<WithInternals>;
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
    settings: withInternals({ environment, checkNode: checkEntry }),
  });
}
