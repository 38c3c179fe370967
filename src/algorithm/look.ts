import { isHeld } from "../errors.js";
import { askOutsideVote } from "../nodes/ask-outside-vote.js";
import type { Node } from "../nodes/node.js";
import { type FoundKey, foundIn, inspectOperation } from "../operations/inspect.js";
import { isRefusal } from "../quorum/ballot.js";
import type { Timer } from "../runtime/environment.js";
import type { Acquisition } from "./call.js";

/**
 * Starts a timer that inspects the keys shortly before `acquireTimeout` ends, while the call still waits: inspecting
 * them afterwards would take longer than the caller allowed.
 */
export function lookBeforeEnd(call: Acquisition): Timer | undefined {
  const leftMs = call.budgetLeftMs;
  if (leftMs === Infinity) return undefined;
  const look = (): void => void keysInTheWay(call);
  const delayMs = Math.max(leftMs / 2, leftMs - call.longestNodeTimeoutMs);
  return call.instance.environment.setTimer(look, delayMs);
}

/**
 * Returns what the nodes that refused the lock store under its keys: SET NX only says that a key exists. Inspects each
 * node once that refused the lock, granted it to another call or has not voted yet, but waits only for those that voted.
 */
export async function keysInTheWay(call: Acquisition): Promise<Map<Node, readonly FoundKey[]>> {
  const { history } = call;
  const inTheWay = new Map<Node, readonly FoundKey[]>();
  for (;;) {
    const refusing: Node[] = [];
    const { last } = history;
    const isGrant = last !== undefined && history.isGrantOfOther(last);
    for (const { node, vote } of last?.ballots ?? []) {
      if ((vote === "for" && !isGrant) || (isRefusal(vote) && !isHeld(vote))) continue;
      void lookAt(node, call);
      if (vote !== undefined && !inTheWay.has(node)) refusing.push(node);
    }
    if (refusing.length === 0) return inTheWay;
    for (const node of refusing) inTheWay.set(node, await lookAt(node, call));
  }
}

/** Inspects a node, once for each call. Resolves with what it stores under the keys. */
export function lookAt(node: Node, call: Acquisition): Promise<readonly FoundKey[]> {
  call.found ??= new Map();
  let found = call.found.get(node);
  if (found === undefined) call.found.set(node, (found = keysOn(node, call)));
  return found;
}

/** Reads what a node stores under the keys; nothing if it does not reply in time. */
async function keysOn(node: Node, call: Acquisition): Promise<readonly FoundKey[]> {
  const { keys, instance } = call;
  const timeoutMs = Math.min(call.nodeTimeoutMs(node), call.callLeftMs);
  if (timeoutMs <= 0) return [];
  const ask = () => node.perform(inspectOperation(keys), () => true);
  const reply = askOutsideVote(node, ask, timeoutMs, instance.environment);
  const found = foundIn(await reply.catch(() => undefined));
  call.foundAtMs ??= instance.environment.monotonicMs();
  return found;
}

/**
 * Passes each node's keys on as they arrive, with the number of nodes that are still missing, until `tell` returns an
 * answer. Resolves with it; undefined if there is none.
 */
export function untilTold<T>(
  inspected: readonly Promise<readonly FoundKey[]>[],
  tell: (keys: readonly FoundKey[], left: number) => T | undefined,
): Promise<T | undefined> {
  return new Promise((resolve) => {
    let left = inspected.length;
    if (left === 0) resolve(undefined);
    for (const each of inspected) {
      void each.then((keys) => {
        left -= 1;
        const answer = tell(keys, left);
        if (answer !== undefined || left === 0) resolve(answer);
      });
    }
  });
}
