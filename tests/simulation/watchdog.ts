import { createContext, Script } from "node:vm";
import { writeSync } from "node:fs";
import { Violation } from "./violation.js";

/** Of real time, for one slice, which takes a few ms: no busy machine is ten thousand times slower. */
const LIMIT_MS = 60_000;
const STEPS_IN_A_SLICE = 1000;
/** The rule that is broken then. Nothing may be tried again to shrink it: each try takes the whole limit. */
export const HANGS = "an end in real time";

const sandbox = createContext({ slice: undefined });
const script = new Script("slice()");

/**
 * Steps for as long as `step` says that there is more, and ends a step that hangs. A turn that hangs, but
 * calls the environment, is ended by its host (see host.ts), by count; for one that does not, as an endless
 * loop of promises, the only help is Node's time limit of a script, which a thread of its own keeps. Where
 * Node tracks promises (in Jest), the process dies of that: so `what` hangs is first written to stderr.
 */
export function stepWatched(what: string, step: () => boolean, limitMs = LIMIT_MS): void {
  sandbox["slice"] = () => {
    for (let steps = 0; steps < STEPS_IN_A_SLICE; steps++) if (!step()) return false;
    return true;
  };
  for (let hasMore: unknown = true; hasMore === true;) {
    try {
      hasMore = script.runInContext(sandbox, { timeout: limitMs, displayErrors: false });
    } catch (error) {
      if ((error as { code?: unknown }).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      const violation = new Violation(
        HANGS,
        `${what} hangs: one turn has not ended in ${limitMs} ms`,
      );
      writeSync(process.stderr.fd, `${violation.message}\n`);
      throw violation;
    }
  }
}
