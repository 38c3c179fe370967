import pTimeout from "p-timeout";
import { ExecutionError } from "../errors.js";
import type { Node } from "../nodes/node.js";
import { endOfTurn, pTimeoutTimers } from "../runtime/environment.js";
import type { Instance } from "./call.js";
import { endInUse } from "./using.js";

/**
 * Ends everything that an instance does, then closes the connections to `nodes`: each once it has no command in flight,
 * or after `timeoutMs`.
 */
export async function close(
  instance: Instance,
  closing: AbortController,
  nodes: readonly Node[],
  timeoutMs: number,
): Promise<void> {
  const { queues, undecided, locksInUse, environment } = instance;
  closing.abort(
    new ExecutionError(
      "This Redlock was closed by quit() or disposal. Make a new one.",
      [],
      "ERR_REDLOCK_CLOSED",
    ),
  );
  queues.close();
  for (const node of instance.nodes) node.forgetPending();
  for (const round of undecided) round.cut();
  for (const lock of locksInUse) endInUse(instance, lock);
  // Calls that attempt, wait or run a routine send their releases before the connections close.
  await endOfTurn(environment);
  const customTimers = pTimeoutTimers(environment);
  await Promise.all(
    nodes.map((node) =>
      pTimeout(node.quit(), { milliseconds: timeoutMs, customTimers }).catch(() => {
        node.disconnect();
      }),
    ),
  );
}
