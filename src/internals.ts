import { type Environment, systemEnvironment } from "./runtime/environment.js";
import { checkEntry } from "./nodes/entries.js";

/** What is real for every caller, and simulated for the simulator. */
export interface Internals {
  readonly environment: Environment;
  readonly checkNode: typeof checkEntry;
}

/** Under this key the simulator puts its own among the settings; it is no setting. */
export const internalsKey = Symbol("redlock-quorum internals");

export interface WithInternals {
  /** @internal */
  readonly [internalsKey]?: Internals;
}

const REAL: Internals = { environment: systemEnvironment, checkNode: checkEntry };

export function internalsOf(settings: WithInternals): Internals {
  return settings[internalsKey] ?? REAL;
}
