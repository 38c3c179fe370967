import pTimeout from "p-timeout";
import { type Environment, pTimeoutTimers } from "../runtime/environment.js";
import { noAnswerIn } from "../errors.js";
import type { Node } from "./node.js";

/**
 * Asks one node something that is no vote. Rejects with why it is not asked, with what `ask` rejects with, when
 * its time is over, or with the signal's reason.
 */
export async function askOutsideVote<T>(
  node: Node,
  ask: () => Promise<T>,
  timeoutMs: number,
  environment: Environment,
  signal?: AbortSignal,
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
    ...(signal && { signal }),
  });
}

/** Until when the restart guard holds the node back, in epoch ms, as a report's field; none where it does not. */
export function holdOf({ heldBackUntil }: Node): { readonly heldBackUntil?: number } {
  return heldBackUntil === undefined ? {} : { heldBackUntil };
}
