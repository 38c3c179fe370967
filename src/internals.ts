import type { Internals } from "./algorithm/instance.js";
import { systemEnvironment } from "./runtime/environment.js";
import { checkEntry } from "./nodes/entries.js";
import type { RedlockSettings } from "./settings.js";

export type { Internals } from "./algorithm/instance.js";

/** The key under which the simulator passes its internals with the settings. It is not a setting. */
export const internalsKey = Symbol("redlock-quorum internals");

export interface WithInternals {
  readonly [internalsKey]?: Internals;
}

/** Returns the settings with these internals. */
export function withInternals(
  internals: Internals,
  settings: RedlockSettings = {},
): RedlockSettings & Required<WithInternals> {
  return { ...settings, [internalsKey]: internals };
}

const REAL: Internals = { environment: systemEnvironment, checkNode: checkEntry };

export function internalsOf(settings: RedlockSettings): Internals {
  return (settings as WithInternals)[internalsKey] ?? REAL;
}
