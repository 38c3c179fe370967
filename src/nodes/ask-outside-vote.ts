import pTimeout from "p-timeout";
import { type Environment, pTimeoutTimers } from "../runtime/environment.js";
import { noAnswerIn } from "../errors.js";
import type { Node } from "./node.js";

/**
 * Asks one node something that is not a vote. Rejects with the node's refusal, with what `ask` rejects with, or on
 * timeout.
 */
export async function askOutsideVote<T>(
  node: Node,
  ask: () => Promise<T>,
  timeoutMs: number,
  environment: Environment,
): Promise<T> {
  const refusal = node.refusal();
  if (refusal !== undefined) throw refusal;
  const answer = (async () => {
    await node.connecting();
    return ask();
  })();
  return pTimeout(answer, {
    milliseconds: timeoutMs,
    message: noAnswerIn(timeoutMs, node.name),
    customTimers: pTimeoutTimers(environment),
  });
}

/** Returns the field `heldBackUntil` of a report, in epoch ms; no field if the restart guard does not hold it back. */
export function holdOf({ heldBackUntil }: Node): { readonly heldBackUntil?: number } {
  return heldBackUntil === undefined ? {} : { heldBackUntil };
}
