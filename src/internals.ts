import { type Environment, systemEnvironment } from "./runtime/environment.js";
import { checkEntry } from "./nodes/entries.js";

/** What the simulator replaces. For everybody else it is real. */
export interface Internals {
  readonly environment: Environment;
  readonly checkNode: typeof checkEntry;
}

/** The key under which the simulator passes its internals with the settings. It is not a setting. */
export const internalsKey = Symbol("redlock-quorum internals");

export interface WithInternals {
  /** @internal */
  readonly [internalsKey]?: Internals;
}

const REAL: Internals = { environment: systemEnvironment, checkNode: checkEntry };

export function internalsOf(settings: WithInternals): Internals {
  return settings[internalsKey] ?? REAL;
}
